"""Whatever operators, replicas, gateways and time do: what cloud.hosting.rollout promises holds."""

from contextlib import suppress

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cloud.errors import ConflictError
from cloud.hosting import commands, state
from cloud.hosting.state import Phase
from cloud.hosting.strategies import Gates, Kind, OnSilence, Strategy
from tests.support.rollouts import World

KINDS = st.sampled_from([Kind.ROLLING, Kind.BLUE_GREEN, Kind.CANARY, Kind.SHADOW])


@st.composite
def some_strategy(draw: st.DrawFn) -> Strategy:
    steps = draw(st.sampled_from([(10, 50, 100), (100,), (30,), (1, 99)]))
    return Strategy(
        kind=draw(KINDS),
        steps=steps,
        soak_s=draw(st.sampled_from([0.0, 30.0])),
        step_s=draw(st.sampled_from([0.0, 20.0])),
        progress_s=100.0,
        silence_s=60.0,
        on_silence=draw(st.sampled_from(OnSilence)),
        gates=Gates(min_requests=20),
    )


class Rollouts(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World(state.first(1, Strategy(), 1000.0))
        self.newest = 1

    @initialize(strategy=some_strategy())
    def create(self, strategy: Strategy) -> None:
        self.world.state = state.first(1, strategy, self.world.now)

    @precondition(lambda self: self.newest < 6)
    @rule(strategy=some_strategy())
    def update(self, strategy: Strategy) -> None:
        self.newest += 1
        self.world.state = commands.begin(self.world.state, self.newest, strategy, self.world.now)

    @rule(data=st.data())
    def set_traffic(self, data: st.DataObject) -> None:
        one = data.draw(st.integers(1, self.newest))
        other = data.draw(st.integers(1, self.newest))
        share = data.draw(st.integers(0, 100))
        weights = {one: share, other: 100 - share} if one != other else {one: 100}
        self.world.state = commands.set_traffic(self.world.state, weights, self.world.now)

    @rule()
    def promote(self) -> None:
        with suppress(ConflictError):
            self.world.state = commands.promote(self.world.state, self.world.now)

    @rule(to=st.none() | st.integers(1, 6))
    def roll_back(self, to: int | None) -> None:
        with suppress(ConflictError):
            goal = None if to is None else min(to, self.newest)
            self.world.state = commands.rollback(
                self.world.state, goal, self.world.now, reason="by hand"
            )

    @rule(number=st.integers(1, 6))
    def image_comes(self, number: int) -> None:
        self.world.images.add(number)
        self.world.broken.pop(number, None)

    @rule(number=st.integers(1, 6))
    def image_breaks(self, number: int) -> None:
        self.world.broken[number] = "it cannot be made"

    @rule(number=st.integers(1, 6), how=st.sampled_from(["ready", "half", "gone"]))
    def replicas_change(self, number: int, how: str) -> None:
        self.world.ready.discard(number)
        self.world.half.discard(number)
        {"ready": self.world.ready, "half": self.world.half, "gone": set()}[how].add(number)

    @rule(known=st.booleans(), in_force=st.booleans())
    def sight_changes(self, known: bool, in_force: bool) -> None:  # noqa: FBT001 - two facts
        self.world.known, self.world.in_force = known, in_force

    @rule(requests=st.integers(0, 500), percent=st.sampled_from([0, 0, 3, 100]))
    def requests_come(self, requests: int, percent: int) -> None:
        failing = dict.fromkeys(range(1, 7), percent)
        self.world.serve(requests, failing=failing)

    @rule()
    def gateway_restarts(self) -> None:
        self.world.started_at, self.world.counts = self.world.now, {}

    @rule(seconds=st.sampled_from([0.0, 1.0, 25.0, 70.0, 200.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.now += seconds
        self.decide()

    @rule()
    def decide(self) -> None:
        before, blind = self.world.state, not self.world.known
        seen = {number: self.world.answers(number) for number in range(1, 7)}
        made = self.world.tick()
        risen = [n for n, w in made.state.traffic.items() if w > before.traffic.get(n, 0)]
        lost_anyway = not any(seen[n] for n in before.traffic)
        assert all(seen[number] for number in risen) or lost_anyway, (before, made.state)
        assert not (blind and made.state.traffic != before.traffic)

    @rule()
    def all_goes_well(self) -> None:
        """From wherever it is, it comes to an end once nothing is wrong any more."""
        world = self.world
        world.images, world.broken, world.half = set(range(1, 7)), {}, set()
        world.ready, world.known, world.in_force = set(range(1, 7)), True, True
        for _ in range(40):
            world.serve(1000)
            world.now += 101.0
            world.settle()
        rollout = world.state.rollout
        assert rollout is None or rollout.phase is Phase.HOLDING
        assert world.state.stable is not None or rollout is not None

    @invariant()
    def shares_add_up(self) -> None:
        traffic = self.world.state.traffic
        assert sum(traffic.values()) == 100
        assert min(traffic.values()) > 0

    @invariant()
    def whoever_has_traffic_has_replicas(self) -> None:
        found = self.world.state
        assert found.traffic.keys() <= found.wanted <= found.needed

    @invariant()
    def what_is_saved_is_what_is_read(self) -> None:
        assert state.read(state.plain(self.world.state)) == self.world.state


class FailingCanaries(RuleBasedStateMachine):
    """One canary that fails each request: it ends on the revision before, whatever else happens."""

    def __init__(self) -> None:
        super().__init__()
        strategy = Strategy(kind=Kind.CANARY, gates=Gates(min_requests=20), progress_s=100.0)
        self.world = World(state.State(traffic={1: 100}, stables=(1,)), images={1, 2}, ready={1})
        self.world.state = commands.begin(self.world.state, 2, strategy, self.world.now)

    @rule(how=st.booleans())
    def canary_comes_and_goes(self, how: bool) -> None:  # noqa: FBT001 - a fact
        (self.world.ready.add if how else self.world.ready.discard)(2)

    @rule(known=st.booleans(), in_force=st.booleans())
    def sight_changes(self, known: bool, in_force: bool) -> None:  # noqa: FBT001 - two facts
        self.world.known, self.world.in_force = known, in_force

    @rule(requests=st.integers(0, 500))
    def requests_come(self, requests: int) -> None:
        self.world.serve(requests, failing={2: 100})

    @rule(seconds=st.sampled_from([0.0, 10.0, 70.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.now += seconds
        self.world.tick()

    @invariant()
    def it_never_gets_further_than_its_first_step(self) -> None:
        assert self.world.state.traffic.get(2, 0) <= 10

    def teardown(self) -> None:
        world = self.world
        world.known, world.in_force = True, True
        world.ready.add(2)
        for _ in range(10):
            world.serve(1000, failing={2: 100})
            world.go_on(61.0)
        assert world.state == state.State(traffic={1: 100}, stables=(1,))
        assert world.failed.keys() == {2}


CALM = settings(max_examples=60, stateful_step_count=40)
TestRollouts = Rollouts.TestCase
TestRollouts.settings = CALM
TestFailingCanaries = FailingCanaries.TestCase
TestFailingCanaries.settings = settings(max_examples=40, stateful_step_count=25)
