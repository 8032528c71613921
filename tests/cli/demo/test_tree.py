import trio

from codex_actors import (
    ChildSpec,
    ChildStatus,
    Codex,
    DynamicSupervisor,
    Restart,
    Supervisor,
    open_supervisor,
)
from codex_actors.cli._demo._tree import Growth, drawn, grown
from codex_actors.telemetry import ProcessSpawned


async def lives(*, task_status: ChildStatus[None]) -> None:
    task_status.started()
    await trio.sleep_forever()


JOB = ChildSpec(id="job", start=lives, restart=Restart.TEMPORARY)


def jobs_of(root: Supervisor) -> DynamicSupervisor:
    [jobs] = [info.child.value for info in root.which_children() if info.id == "jobs" and info.child]
    assert isinstance(jobs, DynamicSupervisor)
    return jobs


async def test_a_tree_is_drawn_with_what_has_become_of_it():
    children = [
        DynamicSupervisor.child_spec("jobs", restart=Restart.TRANSIENT),
        Codex.child_spec(),
        ChildSpec(id="last", start=lives),
    ]
    async with open_supervisor(children, name="root") as root:
        jobs = jobs_of(root)
        lives_of_jobs = [await jobs.start_child(JOB) for _ in range(3)]
        growth = Growth(root)
        for life in lives_of_jobs:
            assert life is not None
            await jobs.terminate_child(life)
        await root.terminate_child("last")
        growth.look(ProcessSpawned(pid=1))
        assert list(drawn(growth.fullest, grown(root))) == [
            (" ", "supervision tree", "restart", "at work", "at the end"),
            (" ", "root", "", "running", "running"),
            (" ", "├─ jobs", "transient", "running", "running"),
            (" ", "│  └─ 3 x job", "temporary", "running", "gone"),
            (" ", "├─ codex", "permanent", "running", "running"),
            (" ", "│  ├─ backend", "permanent", "running", "running"),
            (" ", "│  └─ turns", "permanent", "running", "running"),
            (" ", "└─ last", "permanent", "running", "down"),
        ]


async def test_the_tree_is_kept_as_it_was_at_its_fullest():
    async with open_supervisor([DynamicSupervisor.child_spec("jobs")], name="root") as root:
        jobs, growth = jobs_of(root), Growth(root)
        for _ in range(2):
            life = await jobs.start_child(JOB)
            growth.look(ProcessSpawned(pid=1))
        assert growth.fullest == grown(root)
        assert life is not None
        await jobs.terminate_child(life)
        growth.look(ProcessSpawned(pid=2))
        [_, _, _, (_, fullest, *_)] = drawn(growth.fullest, grown(root))
        assert fullest == "   └─ 2 x job"
