"""The Generator actor: rendered prompts in, drafts in the same order out, adapters switched per call."""

import contextlib
import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest
import ray
import torch
from transformers import AutoModelForCausalLM

from actors.generator import BUNDLE, BUNDLE_SECONDS, DRAFTS_AHEAD, GeneratorClient, _places, bundled, cores_left
from app.errors import UserError
from app.profiles import smoke
from app.records import Draft, FinishReason, Prompt, Sampling
from app.settings import SftSettings
from app.training import lora
from tests.processes import below


def free_cores() -> int:
    return int(ray.available_resources().get("CPU", 0))


def wait_until(is_so: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_generator_that_finds_no_room_gives_up_with_a_sentence(
    local_ray: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @ray.remote(num_cpus=1)
    class Holder:
        def here(self) -> None: ...

    monkeypatch.setattr("actors.generator.PLACE_SECONDS", 3.0)
    monkeypatch.setattr("actors.generator.SAY_EVERY_SECONDS", 1.0)
    holder = Holder.remote()
    ray.get(holder.here.remote())
    start = time.monotonic()
    with pytest.raises(
        UserError, match="waits for {'num_cpus': 4, .* more than 3 s; the cluster has .*: end what holds"
    ):
        GeneratorClient(smoke().model, smoke().generation)
    assert time.monotonic() - start < 10
    assert "the generator waits for {'num_cpus': 4" in capsys.readouterr().err
    ray.kill(holder)
    wait_until(lambda: free_cores() == 4)  # nothing waits any more that would take them


def test_a_generator_that_dies_while_it_loads_is_told_in_a_sentence(local_ray: None) -> None:
    def end_it() -> None:
        actors: list[psutil.Process] = []
        wait_until(lambda: bool(actors.extend(below("ray::Generator")) or actors))
        actors[0].kill()

    killer = threading.Thread(target=end_it, daemon=True)
    killer.start()
    with pytest.raises(UserError, match="the generator's process ended .* lower generation.batch_size"):
        GeneratorClient(smoke().model, smoke().generation)
    killer.join()
    wait_until(lambda: free_cores() == 4)


def drafts_of(pauses: Sequence[float], error: str = "") -> Iterator[Draft]:
    """One after each pause, in seconds, and then an error."""
    for number, seconds in enumerate(pauses):
        time.sleep(seconds)
        yield Draft(
            problem_id=str(number), text="", num_prompt_tokens=1, num_tokens=1, mean_logprob=0.0,
            finish_reason=FinishReason.STOP, adapter="", seed=0, sample=0,
        )  # fmt: skip
    if error:
        raise MemoryError(error)


def test_drafts_go_alone_where_they_come_slowly_and_in_bundles_where_they_come_fast() -> None:
    slow, fast = [2 * BUNDLE_SECONDS] * 3, [0.0] * (2 * BUNDLE + 2)
    assert [len(bundle) for bundle in bundled(drafts_of(slow))] == [1, 1, 1]
    bundles = list(bundled(drafts_of(fast)))
    assert len(bundles) <= 5 and max(map(len, bundles)) == BUNDLE
    assert [draft.problem_id for bundle in bundles for draft in bundle] == [str(number) for number in range(len(fast))]


def test_drafts_that_were_done_before_their_engine_failed_still_come() -> None:
    seen: list[str] = []
    with pytest.raises(MemoryError, match="of this engine"):
        for bundle in bundled(drafts_of([0.0] * 8, "of this engine")):
            seen += [draft.problem_id for draft in bundle]
    assert seen == [str(number) for number in range(8)]


@pytest.fixture(scope="module")
def generator(local_ray: None) -> Iterator[GeneratorClient]:
    client = GeneratorClient(smoke().model, smoke().generation)
    yield client
    client.close()


def test_engines_have_a_card_each_and_one_of_them_half_of_the_trainers(local_ray: None) -> None:
    on_cards = smoke().generation.model_copy(update={"use_gpu": True})
    assert _places(on_cards, False) == [{"num_cpus": 1, "num_gpus": 1.0}], "the cluster has one card"
    three = on_cards.model_copy(update={"num_workers": 3})
    assert [place["num_gpus"] for place in _places(three, True)] == [0.5, 1.0, 1.0]
    assert [place["num_gpus"] for place in _places(three, False)] == [1.0, 1.0, 1.0]
    assert cores_left(smoke().generation) == 1 and cores_left(three) == 1
    assert cores_left(smoke().generation.model_copy(update={"num_workers": 2})) == 2


def drawn(drafts: Sequence[Draft]) -> list[tuple[str, int, tuple[int, ...]]]:
    """All but their log-probabilities, whose last bits depend on who else was in the batch."""
    return [(draft.problem_id, draft.sample, draft.token_ids) for draft in drafts]


def test_two_generators_draw_and_score_as_one_does_and_the_end_of_either_is_told(
    local_ray: None, request: pytest.FixtureRequest
) -> None:
    prompts = [Prompt(id=str(n), text=f"def f{n}(a, b):", samples=tuple(range(n + 1))) for n in range(8)]
    hot, pairs = Sampling(max_new_tokens=12, temperature=1.0, seed=3), [("x", " = 1" * n) for n in range(5)]
    two = GeneratorClient(smoke().model, smoke().generation.model_copy(update={"num_workers": 2}))
    with contextlib.closing(two):
        assert len(below("ray::Generator")) == 2 and free_cores() == 0, "each has half of the cores"
        drafts, scores = two.generate(prompts, hot), two.score(pairs)
        two.sleep()
        assert drawn(two.generate(prompts[:2], hot)) == drawn(drafts[:3]), "both wake again"
        stream = two.stream([Prompt(id="x", text="x", samples=tuple(range(5000)))], Sampling(max_new_tokens=2))
        first_part = {draft.sample < 1875 for draft in itertools.islice(stream, 1500)}
        assert first_part == {True, False}, "three quarters of a half are the first one's, the next the other's"
        os.kill(below("ray::Generator")[1].pid, signal.SIGKILL)
        with pytest.raises(UserError, match="the generator's process ended .* lower generation.batch_size"):
            list(stream)
    one: GeneratorClient = request.getfixturevalue("generator")
    assert drawn(drafts) == drawn(one.generate(prompts, hot))
    for found, wanted in zip(scores, one.score(pairs), strict=True):
        assert found == pytest.approx(wanted, abs=1e-4)


def test_drafts_come_in_the_order_of_prompts_and_samples(generator: GeneratorClient) -> None:
    prompts = [Prompt(id=name, text=f"def {name}(a, b):", samples=(2, 0)) for name in ("add", "multiply", "x")]
    drafts = generator.generate(prompts, Sampling(max_new_tokens=4, temperature=1.0))
    assert [(draft.problem_id, draft.sample) for draft in drafts] == [(p.id, n) for p in prompts for n in (2, 0)]
    assert all(draft.num_tokens == 4 and draft.mean_logprob < 0 for draft in drafts)


def test_drafts_stream_before_the_last_one_is_done(generator: GeneratorClient) -> None:
    prompts = [Prompt(id=str(number), text="x = " * (number + 1)) for number in range(64)]
    arrivals, start = {}, time.monotonic()
    for draft in generator.stream(prompts, Sampling(max_new_tokens=32)):
        arrivals[draft.problem_id] = time.monotonic() - start
    assert arrivals.keys() == {prompt.id for prompt in prompts}
    assert min(arrivals.values()) < 0.6 * max(arrivals.values())


def test_a_slow_consumer_holds_the_actor_back(generator: GeneratorClient) -> None:
    wanted = 4 * DRAFTS_AHEAD
    prompt = Prompt(id="x", text="x", samples=tuple(range(wanted)))
    stream = generator.stream([prompt], Sampling(max_new_tokens=1, temperature=1.0))
    seen = [next(stream).sample]
    asked = generator._actors[0].pid.remote()  # waits in the actor until the stream is through
    assert not ray.wait([asked], timeout=3)[0], "the actor drew all drafts although nobody took them"
    seen += [draft.sample for draft in stream]
    assert sorted(seen) == list(range(wanted))
    ray.get(asked, timeout=30)


def test_scoring_and_sleeping_are_handed_through(generator: GeneratorClient) -> None:
    pairs = [("def f():", " return 1"), ("x", "")]
    before = generator.score(pairs)
    assert len(before[0]) > 1 and all(value < 0 for value in before[0]) and before[1] == []
    generator.sleep()
    assert generator.score(pairs) == before
    assert [len(one) for one in generator.score_ids([((5, 6), (7, 8, 9)), ([5], [])])] == [3, 0]


def test_an_adapter_is_switched_on_and_off_per_call(
    generator: GeneratorClient, smoke_model: Path, tmp_path: Path
) -> None:
    model = lora.attach(AutoModelForCausalLM.from_pretrained(smoke_model, dtype=torch.float32), SftSettings(), seed=0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    lora.save(model, tmp_path)
    prompts, greedy = [Prompt(id="a", text="def f():")], Sampling(max_new_tokens=8)
    base = generator.generate(prompts, greedy)
    adapted = generator.generate(prompts, greedy, adapter=str(tmp_path))
    assert adapted[0].text != base[0].text and generator.generate(prompts, greedy) == base
    with pytest.raises(UserError, match="no PEFT folder"):
        generator.generate(prompts, greedy, adapter=str(tmp_path / "nowhere"))


def test_a_process_that_died_is_told_in_a_sentence(generator: GeneratorClient) -> None:
    """The last test: it ends the actor that the others use."""
    pid = ray.get(generator._actors[0].pid.remote())
    stream = generator.stream([Prompt(id="x", text="x", samples=tuple(range(5000)))], Sampling(max_new_tokens=20))
    next(stream)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(UserError, match="the generator's process ended .* lower generation.batch_size"):
        list(stream)
