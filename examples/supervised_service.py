r"""A service of your own with Codex in its supervision tree: a line in is a question, a line out its answer.

`printf 'What is here?\nWhat is tested?\n' | python supervised_service.py`. A worker that crashes is started
again, a runtime that does takes its workers with it; the end of the input, Ctrl-C and SIGTERM stop all of
it in order.
"""

import signal
import sys

import trio

from codex_actors import (
    AutoShutdown,
    Backoff,
    ChildSpec,
    ChildStatus,
    Codex,
    CodexError,
    Restart,
    Strategy,
    Supervisor,
    ThreadOptions,
    open_supervisor,
)

WORKERS = 2


async def worker(
    tree: Supervisor, questions: trio.MemoryReceiveChannel[str], *, task_status: ChildStatus[None]
) -> None:
    [codex] = [it.child.value for it in tree.which_children() if it.id == "codex" and it.child]
    assert isinstance(codex, Codex)  # looked up here: after a restart it is another one
    task_status.started()
    async for question in questions:
        with task_status.grace():  # who is asked to stop has time to finish this one
            try:
                thread = codex.start_thread(ThreadOptions(sandbox="read-only", ephemeral=True))
                answer = (await thread.run(question)).final_response
            except CodexError as error:  # an answer too; what is not caught is a crash
                answer = type(error).__name__
            print(f"{question} -> {answer}", flush=True)


async def stop_at_sigterm(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async for _ in signals:
            scope.cancel()


async def main() -> None:
    send, questions = trio.open_memory_channel[str](100)  # bounded: who asks too quickly waits
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stop_at_sigterm, nursery.cancel_scope)
        async with open_supervisor(
            [Codex.child_spec()],
            name="service",
            strategy=Strategy.REST_FOR_ONE,  # a new runtime means new workers
            auto_shutdown=AutoShutdown.ALL_SIGNIFICANT,  # when the last worker has finished
            backoff=Backoff(),
        ) as tree:
            for number in range(WORKERS):
                await tree.start_child(
                    ChildSpec(
                        id=f"worker-{number}",
                        start=worker,
                        args=(tree, questions),
                        restart=Restart.TRANSIENT,  # may finish, and is started again when it crashes
                        significant=True,
                        shutdown=30,
                    )
                )
            with send:
                while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
                    await send.send(line.strip())
            await trio.sleep_forever()  # until the workers have answered what is left
        nursery.cancel_scope.cancel()
    print("stopped in order")


if __name__ == "__main__":
    trio.run(main)
