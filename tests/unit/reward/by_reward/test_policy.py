"""The coefficients of a policy gradient, and that they are one in both losses."""

import math
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, Qwen3Config

from app.records import IGNORE, Draft, FinishReason
from app.reward.by_reward.base import COPIES, with_base
from app.reward.by_reward.policy import ADVANTAGES, BASE, DRAWN, Policy
from app.reward.by_reward.rows import batches_of, sample_of
from app.settings import SftSettings
from app.training import lora
from app.training.loss import CausalLMLoss, FusedLoss
from app.training.out_of_memory import Ladder
from app.training.saved_activations import Keep

TINY = Qwen3Config(
    vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=8, max_position_embeddings=128, tie_word_embeddings=True,
)  # fmt: skip


def weights(ratios: list[float], advantages: list[float], policy: Policy | None = None) -> list[float]:
    """Coefficients of tokens of probability 0.5 under the engine, and `ratio` times that under the trainer."""
    losses = torch.tensor([-math.log(0.5 * ratio) for ratio in ratios])
    columns = {ADVANTAGES: torch.tensor(advantages), DRAWN: torch.full((len(ratios),), math.log(0.5))}
    found: list[float] = (policy or Policy())(losses, columns).tolist()
    return found


def test_a_token_counts_by_its_advantage_and_its_ratio() -> None:
    assert weights([1, 1, 1.1], [0.5, -0.25, 1]) == pytest.approx([0.5, -0.25, 1.1], abs=1e-6)


def test_a_ratio_that_went_as_far_as_its_advantage_drives_it_gives_no_gradient() -> None:
    assert weights([1.3, 0.75, 1.3, 0.75], [1, -1, -1, 1]) == pytest.approx([0, 0, -1.3, 0.75], abs=1e-6)


def test_a_token_that_the_engine_took_for_unlikely_counts_twice_at_most() -> None:
    assert weights([1.99, 50], [-1, -1], Policy(cap=1.5)) == pytest.approx([-1.5, -1.5])


def test_figures_tell_mismatch_and_clipping_since_the_last_time() -> None:
    policy = Policy()
    weights([1, 2, 2, 0.5], [1, 1, -1, -1], policy)
    figures = policy.figures()
    assert figures.mismatch == pytest.approx(3 * math.log(2) / 4, abs=1e-6) and figures.clipped == 0.5
    assert policy.figures().mismatch == 0


def test_the_hold_on_a_token_is_the_gradient_of_k3() -> None:
    """Against autograd of GRPO's loss: -advantage * ratio + kl * k3."""
    log_p = torch.tensor([-0.5, -1.0, -3.0, -0.1], requires_grad=True)
    drawn, base = torch.tensor([-0.6, -1.0, -2.9, -0.2]), torch.tensor([-2.0, -1.0, -0.5, -0.11])
    advantages = torch.tensor([0.5, -0.25, 1.0, 0.0])
    k3 = (base - log_p).exp() - 1 - (base - log_p)
    (-advantages * (log_p - drawn).exp() + 0.3 * k3).sum().backward()
    policy = Policy(kl=0.3)
    found = policy(-log_p.detach(), {ADVANTAGES: advantages, DRAWN: drawn, BASE: base})
    torch.testing.assert_close(found, -log_p.grad)  # a coefficient is that of -log p
    assert policy.figures().kl == pytest.approx(k3.mean().item(), abs=1e-6)
    assert policy.figures().kl is None, "not measured since"


def test_a_kl_that_is_only_measured_changes_no_gradient() -> None:
    base = torch.tensor([-2.0, 90.0])
    columns = {ADVANTAGES: torch.tensor([0.5, -0.25]), DRAWN: torch.full((2,), math.log(0.5))}
    losses = torch.full((2,), math.log(2))
    measured = Policy()
    assert measured(losses, columns | {BASE: base}).tolist() == Policy()(losses, columns).tolist()
    assert measured.figures().kl is not None


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    adapted = lora.attach(AutoModelForCausalLM.from_config(TINY), SftSettings(lora_r=4), 0)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    return adapted


def drawn(ids: list[int], logprobs: list[float]) -> Draft:
    return Draft(
        problem_id="p", text="", num_prompt_tokens=3, num_tokens=len(ids), mean_logprob=0.0, adapter="", seed=0,
        finish_reason=FinishReason.STOP, token_ids=tuple(ids), token_logprobs=tuple(logprobs),
    )  # fmt: skip


def batch() -> dict[str, Tensor]:
    samples = [
        sample_of([5, 6, 7], drawn([8, 9, 10, 11], [-4.0, -5.0, -4.5, -4.0]), 0.75),
        sample_of([5, 6, 7], drawn([12, 13], [-4.0, -3.0]), -0.25),
        sample_of([40, 41], drawn([42, 43, 44], [-4.4, -4.5, -4.6]), 0.5),
    ]
    (made,) = batches_of(samples, seq_len=16, micro_batch=4, pad_id=0)
    return made


def test_a_draft_is_learnt_by_the_tokens_that_were_drawn_each_in_its_place() -> None:
    made = batch()
    learnt = made["labels"] != IGNORE
    assert sorted(made["labels"][learnt].tolist()) == [8, 9, 10, 11, 12, 13, 42, 43, 44]
    told = {
        int(label): (a, d)
        for label, a, d in zip(
            made["labels"][learnt], made[ADVANTAGES][learnt].tolist(), made[DRAWN][learnt].tolist(), strict=True
        )
    }
    assert told[9] == (0.75, -5.0) and told[13] == (-0.25, -3.0) and told[44] == pytest.approx((0.5, -4.6))
    assert not made[ADVANTAGES][~learnt].any() and not made[DRAWN][~learnt].any()


def test_the_base_is_asked_without_its_adapter_in_the_place_of_each_token(model: nn.Module) -> None:
    rows = batch()
    (found,) = with_base(model, [rows], 4, Ladder())
    with torch.no_grad(), model.disable_adapter():
        decoder = model.get_base_model().get_decoder()
        hidden = decoder(input_ids=rows["input_ids"], position_ids=rows["position_ids"], use_cache=False)
        log_p = torch.log_softmax(model.get_base_model().lm_head(hidden.last_hidden_state[:, :-1]), -1)
    chosen = rows["labels"][:, 1:] != IGNORE
    wanted = log_p.gather(2, rows["labels"][:, 1:].clamp(min=0)[..., None])[..., 0]
    torch.testing.assert_close(found[BASE][:, 1:][chosen], wanted[chosen])
    assert not found[BASE][:, 1:][~chosen].any() and not found[BASE][:, 0].any()
    assert all(p.requires_grad for name, p in model.named_parameters() if "lora_" in name), "it can be trained on"


def test_the_base_takes_no_more_for_its_logits_than_the_fused_layers_do(model: nn.Module) -> None:
    sizes = list[int]()
    hook = model.get_base_model().lm_head.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    with_base(model, [batch()], 2 * COPIES, Ladder())
    hook.remove()
    assert len(sizes) > 1 and max(sizes) == 2


def test_a_base_that_finds_no_memory_is_asked_fewer_rows_at_once_from_then_on(
    model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = batch()
    rows = {name: torch.cat([column, column.flip(0)]) for name, column in rows.items()}
    wanted = with_base(model, [rows, rows], 4, Ladder())
    plain, asked = CausalLMLoss.forward, list[int]()

    def forward(self: CausalLMLoss, input_ids: Tensor, *columns: Tensor) -> Tensor:
        asked.append(len(input_ids))
        if len(input_ids) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(self, input_ids, *columns)

    monkeypatch.setattr(CausalLMLoss, "forward", forward)
    most = 1
    found = with_base(model, [rows, rows], 4, Ladder(cuts=False))
    assert asked == [4, 2, *[1] * 8]
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one[BASE], other[BASE])
    most = 0
    with pytest.raises(torch.OutOfMemoryError):
        with_base(model, [rows], 4, Ladder(cuts=False))
    assert all(p.requires_grad for name, p in model.named_parameters() if "lora_" in name), "the adapter is on again"


def test_an_adapter_that_adds_nothing_is_no_nats_from_its_base(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.zeros_(parameter)
    policy = Policy()
    FusedLoss(model, 4, weigh=policy)(**with_base(model, [batch()], 4, Ladder())[0])
    assert policy.figures().kl == pytest.approx(0, abs=1e-6)


def test_plain_and_fused_layers_give_one_weighed_loss_and_gradient(model: nn.Module) -> None:
    gradients = []
    for loss in (CausalLMLoss(model, 4, Policy()), FusedLoss(model, 4, [Keep.ALL] * 2, Policy())):
        model.zero_grad()
        loss.refresh()
        total = loss(**batch())
        total.backward()
        gradients.append((total.item(), [p.grad.clone() for p in model.parameters() if p.requires_grad]))
    assert gradients[0][0] == pytest.approx(gradients[1][0], rel=1e-5)
    for plain, fused in zip(gradients[0][1], gradients[1][1], strict=True):
        torch.testing.assert_close(plain, fused, rtol=1e-4, atol=1e-6)


def test_a_weighed_gradient_is_the_sum_of_its_tokens(model: nn.Module) -> None:
    """Against each token's gradient by plain torch."""
    rows = batch()

    def weigh(losses: Tensor, columns: Mapping[str, Tensor]) -> Tensor:
        return columns[ADVANTAGES]

    model.zero_grad()
    loss = CausalLMLoss(model, 64, weigh)
    loss(**rows).backward()
    ours = [p.grad.clone() for p in model.parameters() if p.requires_grad]
    model.zero_grad()
    causal_lm = model.get_base_model()
    hidden = causal_lm.get_decoder()(input_ids=rows["input_ids"], position_ids=rows["position_ids"], use_cache=False)
    log_p = torch.log_softmax(causal_lm.lm_head(hidden.last_hidden_state[:, :-1]), -1)
    targets = rows["labels"][:, 1:]
    chosen = targets != IGNORE
    picked = log_p[chosen].gather(1, targets[chosen][:, None])[:, 0]
    (-(rows[ADVANTAGES][:, 1:][chosen] * picked).sum()).backward()
    for mine, theirs in zip(ours, (p.grad for p in model.parameters() if p.requires_grad), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)
