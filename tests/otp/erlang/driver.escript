#!/usr/bin/env escript
%%! +sbwt none +sbwtdcpu none +sbwtdio none
%% Runs programs on Erlang's own supervisor, many at a time in one VM, and says what happened.
%%
%% A line of stdin is a program: {Number, Root, Steps}. (see differential.py). A line of stdout is the JSON of
%% what became of it: the time, the result and the events of the start, of each step, and of the final stop.
%%
%% - Events have a strictly monotonic stamp from where they happen: starts and reports from the supervisor's
%%   own process, ends from the trace of the process that ends, which comes before anybody can know of it.
%% - A step begins when all is quiet: each process waits where an idle one does, and has nothing to read.
%% - The supervisor counts restarts by a clock of whole seconds. A program's steps come in bursts, each
%%   within one second and in the same part of it. One that took longer is `late`: its trace means nothing.
-module(driver).
-mode(compile).
-export([main/1, start/3, start_one_more/4, init/1, worker/5, log/2]).
-record(run, {collector, tree}).

-define(SECOND, 1000000).
-define(LONGEST_BURST, 450000).

main([Width]) ->
    logger:remove_handler(default),
    logger:add_handler(driver, driver, #{}),
    Main = self(),
    spawn_link(fun() -> read(Main) end),
    dispatch(list_to_integer(Width), 0, [], false).

read(Main) ->
    case io:get_line(standard_io, "") of
        eof ->
            Main ! eof;
        Line ->
            {ok, Tokens, _} = erl_scan:string(Line),
            {ok, Program} = erl_parse:parse_term(Tokens),
            Main ! {program, Program},
            read(Main)
    end.

%% Runs as many programs at once as there is room for, until there will be no more.
dispatch(_, 0, [], true) ->
    ok;
dispatch(Room, Running, [Program | Waiting], Eof) when Running < Room ->
    Main = self(),
    spawn_link(fun() -> Main ! {done, run(Program)} end),
    dispatch(Room, Running + 1, Waiting, Eof);
dispatch(Room, Running, Waiting, Eof) ->
    receive
        {program, Program} -> dispatch(Room, Running, Waiting ++ [Program], Eof);
        {done, Result} -> io:put_chars([json(Result), $\n]), dispatch(Room, Running - 1, Waiting, Eof);
        eof -> dispatch(Room, Running, Waiting, true)
    end.

%% ------------------------------------------------------------------ one program

run({Number, Root, Steps}) ->
    process_flag(trap_exit, true),
    Run = #run{collector = self(), tree = ets:new(tree, [public])},
    Second = wait_for_first_half(),
    Begun = now_us(),
    Play = fun(Step, {Burst, Played}) ->
        Next = wait(Step, Burst),
        At = now_us(),
        Result = play(Run, Step),
        settle(Run, 2),
        {Next, [{At, now_us() - Next, Result, events()} | Played]}
    end,
    {_, Played} = lists:foldl(Play, {Begun, []}, [{open, Root}] ++ Steps ++ [tree, stop]),
    ets:delete(Run#run.tree),
    Longest = lists:max([Took || {_, Took, _, _} <- Played]),
    Late = Longest > ?LONGEST_BURST orelse (Begun - Second) + Longest >= ?SECOND,
    {Number, Late, [{At - Second, Result, Events} || {At, _, Result, Events} <- lists:reverse(Played)]}.

wait_for_first_half() ->
    Now = now_us(),
    Phase = ((Now rem ?SECOND) + ?SECOND) rem ?SECOND,
    case Phase < ?SECOND div 2 of
        true -> Now - Phase;
        false -> timer:sleep((?SECOND - Phase) div 1000 + rand:uniform(400)), wait_for_first_half()
    end.

wait({wait, Seconds}, Burst) ->
    Next = Burst + Seconds * ?SECOND,
    timer:sleep(max(0, (Next - now_us()) div 1000 + 1)),
    Next;
wait(_, Burst) ->
    Burst.

play(Run, {open, Root}) ->
    case start(Run, <<>>, Root) of
        {ok, _} -> ok;
        {error, {shutdown, {failed_to_start_child, Id, _}}} -> {failed, Id}
    end;
play(Run, {exit, Path, Reason}) ->
    case running(Run, Path) of
        undefined ->
            noproc;
        Pid ->
            Monitor = monitor(process, Pid),
            Pid ! {exit, Reason},
            receive {'DOWN', Monitor, _, _, _} -> ok end
    end;
play(Run, {call, Path, Function, Argument}) ->
    call(Run, Path, Function, Argument);
play(Run, {hold, Path, Steps}) ->
    case running(Run, Path) of
        undefined -> noproc;
        Pid -> hold(Run, Pid, Steps)
    end;
play(_, {wait, _}) ->
    ok;
play(Run, tree) ->
    tree(Run, <<>>);
play(Run, stop) ->
    case running(Run, <<>>) of
        undefined ->
            noproc;
        Pid ->
            Monitor = monitor(process, Pid),
            exit(Pid, shutdown),
            receive {'DOWN', Monitor, _, _, _} -> ok end
    end.

%% What the supervisor finds in its mailbox when it goes on, in this order.
hold(Run, Supervisor, Steps) ->
    sys:suspend(Supervisor),
    Send = fun(Step) ->
        Before = queue_length(Supervisor),
        Comes = is_message(Run, Step),
        {_, Call} = spawn_monitor(fun() -> exit({result, play(Run, Step)}) end),
        case Comes of
            false -> ok;
            true -> wait_for_queue(Supervisor, Before + 1)
        end,
        Call
    end,
    Calls = [Send(Step) || Step <- Steps],
    sys:resume(Supervisor),
    [receive {'DOWN', Call, _, _, {result, Result}} -> Result end || Call <- Calls].

is_message(_, {call, _, _, _}) -> true;
is_message(Run, {exit, Path, _}) -> running(Run, Path) =/= undefined.

queue_length(Pid) ->
    {message_queue_len, Length} = process_info(Pid, message_queue_len),
    Length.

wait_for_queue(Pid, Length) ->
    case queue_length(Pid) of
        Length -> ok;
        _ -> timer:sleep(1), wait_for_queue(Pid, Length)
    end.

call(Run, Path, Function, Argument) ->
    case running(Run, Path) of
        undefined ->
            noproc;
        Pid ->
            try result(call(Run, Pid, Path, Function, Argument))
            catch exit:_ -> noproc
            end
    end.

call(_, Pid, _, start_child, {one_more, Path, Starts}) -> supervisor:start_child(Pid, [Path, Starts]);
call(Run, Pid, _, terminate_child, Path) when is_binary(Path) ->
    case running(Run, Path) of
        undefined -> {error, not_found};
        Child -> supervisor:terminate_child(Pid, Child)
    end;
call(Run, Pid, Path, start_child, Child) -> supervisor:start_child(Pid, spec(Run, Path, Child));
call(_, Pid, _, which_children, _) -> supervisor:which_children(Pid);
call(_, Pid, _, count_children, _) -> supervisor:count_children(Pid);
call(_, Pid, _, Function, Id) -> supervisor:Function(Pid, Id).

result({ok, undefined}) -> ignored;
result({ok, #{id := Id, restart := Restart, shutdown := Shutdown, type := Type, significant := Significant}}) ->
    {Id, Restart, Shutdown, Type, Significant};
result({ok, _}) -> ok;
result({error, {already_started, _}}) -> already_started;
result({error, {bad_combination, _}}) -> bad_combination;
result({error, Word}) when Word =:= already_present; Word =:= running; Word =:= restarting; Word =:= not_found -> Word;
result({error, _}) -> failed;
result([{specs, Specs}, {active, Active}, {supervisors, Supervisors}, {workers, Workers}]) ->
    {Specs, Active, Supervisors, Workers};
result(Children) when is_list(Children) -> [{Id, state(Child), Type} || {Id, Child, Type, _} <- Children];
result(ok) -> ok.

state(Pid) when is_pid(Pid) -> running;
state(Word) -> Word.

tree(Run, Path) ->
    case running(Run, Path) of
        undefined -> noproc;
        Pid -> [branch(Run, Path, Child) || Child <- supervisor:which_children(Pid)]
    end.

branch(Run, Path, {Id, Pid, supervisor, _}) when is_pid(Pid) -> {Id, tree(Run, path(Path, Id))};
branch(_, _, {Id, Child, _, _}) -> {Id, state(Child)}.

running(Run, Path) ->
    case ets:lookup(Run#run.tree, Path) of
        [{_, Pid}] -> case is_process_alive(Pid) of true -> Pid; false -> undefined end;
        [] -> undefined
    end.

settle(_, 0) ->
    ok;
settle(Run, Times) ->
    timer:sleep(1),
    case lists:all(fun([Pid]) -> is_idle(Pid) end, ets:match(Run#run.tree, {'_', '$1'})) of
        true -> settle(Run, Times - 1);
        false -> settle(Run, 2)
    end.

is_idle(Pid) when is_pid(Pid) ->
    case process_info(Pid, [current_function, message_queue_len]) of
        undefined -> true;
        [{_, {driver, obey, _}}, {_, 0}] -> true;
        [{_, {gen_server, loop, _}}, {_, 0}] -> true;
        [{_, {erlang, hibernate, _}}, {_, 0}] -> true;
        _ -> false
    end;
is_idle(_) ->
    true.

%% ------------------------------------------------------------------ the tree

%% Called by the supervisor above, in its process.
start(Run, Path, Child) ->
    Started = start_link(Run, Path, Child),
    case Started of
        {ok, Pid} when is_pid(Pid) ->
            ets:insert(Run#run.tree, {Path, Pid}),
            event(Run, {up, Pid, Path}),
            erlang:trace(Pid, true, [procs, strict_monotonic_timestamp, {tracer, Run#run.collector}]);
        _ ->
            ok
    end,
    Started.

start_link(Run, Path, {supervisor, _, Restart, _, _, _} = Supervisor) ->
    event(Run, {start, Path, Restart, ok}),
    supervisor:start_link(driver, {Run, Path, Supervisor});
start_link(Run, Path, {worker, _, Restart, _, _, Starts, OnStop}) ->
    Nth = ets:update_counter(Run#run.tree, {starts, Path}, 1, {{starts, Path}, -1}),
    Outcome = lists:nth(Nth rem length(Starts) + 1, Starts),
    event(Run, {start, Path, Restart, Outcome}),
    proc_lib:start_link(driver, worker, [self(), Run, Path, Outcome, OnStop]).

%% Called by a simple_one_for_one supervisor, whose children differ by no more than this.
start_one_more(Run, Worker, Path, Starts) -> start(Run, Path, setelement(6, Worker, Starts)).

init({Run, Path, {supervisor, _, _, _, {Strategy, Intensity, Period, AutoShutdown}, Children}}) ->
    put(driver, {Run, Path}),
    Flags = #{strategy => Strategy, intensity => Intensity, period => Period, auto_shutdown => AutoShutdown},
    Specs = [spec(Run, Path, Child) || Child <- Children],
    case Strategy of
        simple_one_for_one -> {ok, {Flags, [one_more(Run, Spec, Child) || {Spec, Child} <- lists:zip(Specs, Children)]}};
        _ -> {ok, {Flags, Specs}}
    end.

one_more(Run, Spec, Child) -> Spec#{start => {driver, start_one_more, [Run, Child]}}.

spec(Run, Path, Child) ->
    [Type, Id, Restart, Significant | _] = tuple_to_list(Child),
    Start = {driver, start, [Run, path(Path, Id), Child]},
    Spec = #{id => Id, start => Start, restart => Restart, significant => Significant, type => Type},
    case Child of
        {worker, _, _, _, Shutdown, _, _} -> Spec#{shutdown => Shutdown};
        _ -> Spec
    end.

path(Parent, Id) -> iolist_to_binary([Parent, "/", atom_to_list(Id)]).

worker(_, _, _, fail, _) -> exit(failed);
worker(Parent, _, _, ignore, _) -> proc_lib:init_ack(Parent, ignore);
worker(Parent, _, _, ok, OnStop) ->
    process_flag(trap_exit, OnStop =/= stop),
    proc_lib:init_ack(Parent, {ok, self()}),
    obey(Parent, OnStop).

obey(Parent, OnStop) ->
    receive
        {exit, '{shutdown,term}'} -> exit({shutdown, term});
        {exit, Reason} -> exit(Reason);
        {'EXIT', Parent, Reason} -> stop(OnStop, Reason)
    end.

stop(clean, Reason) -> timer:sleep(2), exit(Reason);
stop(normal, _) -> exit(normal);
stop('{shutdown,term}', _) -> exit({shutdown, term});
stop(crash, _) -> exit(crash);
stop(deaf, Reason) -> timer:sleep(infinity), exit(Reason).

%% ------------------------------------------------------------------ what happens

event(Run, Event) -> Run#run.collector ! {event, stamp(), Event}.

stamp() -> {erlang:monotonic_time(nanosecond), erlang:unique_integer([monotonic])}.

now_us() -> erlang:monotonic_time(microsecond).

%% A handler of the logger's, called in the process that reports.
log(#{msg := {report, #{label := {supervisor, Context}, report := Report}}}, _) when Context =/= progress ->
    case get(driver) of
        {Run, Path} ->
            Id = proplists:get_value(id, proplists:get_value(offender, Report)),
            event(Run, {report, Path, Context, Id, word(Context, proplists:get_value(reason, Report))});
        undefined ->
            ok
    end;
log(_, _) ->
    ok.

word(start_error, _) -> '';
word(shutdown, _) -> '';
word(_, Reason) -> word(Reason).

word({shutdown, _}) -> '{shutdown,term}';
word(Reason) when Reason =:= normal; Reason =:= shutdown; Reason =:= killed -> Reason;
word(_) -> crash.

events() ->
    Delivered = erlang:trace_delivered(all),
    receive {trace_delivered, all, Delivered} -> ok end,
    [Event || {_, Happened} <- lists:sort(gather()), Event <- tell(Happened)].

gather() ->
    receive
        {event, Stamp, Event} -> [{Stamp, Event} | gather()];
        {trace_ts, Pid, exit, Reason, Stamp} -> [{Stamp, {down, Pid, Reason}} | gather()];
        {trace_ts, _, _, _, _} -> gather();
        {trace_ts, _, _, _, _, _} -> gather();
        {'EXIT', _, _} -> gather()
    after 0 -> []
    end.

%% A process that never was up is a start that failed.
tell({up, Pid, Path}) -> put(Pid, Path), [];
tell({down, Pid, Reason}) -> [{'end', Path, word(Reason)} || Path <- [erase(Pid)], Path =/= undefined];
tell(Event) -> [Event].

json(true) -> "true";
json(false) -> "false";
json(Value) when is_integer(Value) -> integer_to_list(Value);
json(Value) when is_atom(Value) -> [$", atom_to_list(Value), $"];
json(Value) when is_binary(Value) -> [$", Value, $"];
json(Value) when is_tuple(Value) -> json(tuple_to_list(Value));
json(Value) when is_list(Value) -> [$[, lists:join($,, [json(Each) || Each <- Value]), $]].
