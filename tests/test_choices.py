"""What choices are worth, by hand: a network that answers what its gate chose."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import toy
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS
from mmengine.structures import BaseDataElement
from results_by_hand import samples_of
from scipy.stats import spearmanr
from torch import nn

from vared_mm.fast.forced_shares import forced
from vared_mm.method import DynamicConfig, make_dynamic
from vared_mm.method.observe import record_cost
from vared_mm.report.choices import choices_of, judge, lines, spearman, verdict
from vared_mm.report.evaluation import Evaluation, evaluate, share_of_first
from vared_mm.report.evaluation_choices import plan_of
from vared_mm.report.evaluation_samples import policy_arrays
from vared_mm.report.policies import dealt, policies_of, rates, views_of
from vared_mm.report.result import read_result, read_samples
from vared_mm.report.sample_losses import label_loss, pixel_loss

LABELS = (0, 0, 1)
OPEN = math.tanh(5)


@DATASETS.register_module()
class TellingClips(BaseDataset):
    """Channel 0 is 10 in clips of class 0, -10 in those of class 1; channel 1 is 1."""

    def load_data_list(self):
        return [{"label": label} for label in LABELS]

    def prepare_data(self, index):
        clip = torch.ones(2, 2, 2, 2)
        clip[0] = 10 - 20 * LABELS[index]
        sample = BaseDataElement(gt_label=torch.tensor([LABELS[index]]))
        return {"inputs": clip, "data_samples": sample}


@MODELS.register_module()
class AnswersItsGate(BaseModel):
    """Class 0 where all channels are computed, class 1 where half of them are: the other half is
    then rebuilt as 0. Its gate opens all for class 0, half for class 1."""

    def __init__(self, dynamic=True):
        super().__init__(toy.StackInputs())
        self.cls_head = nn.Identity()
        self.backbone = nn.Sequential(nn.Conv3d(2, 2, 1, bias=False))
        nn.init.constant_(self.backbone[0].weight[:, 0], 0)
        nn.init.constant_(self.backbone[0].weight[:, 1], 1)
        if dynamic == "fixed":
            make_dynamic(self.backbone, DynamicConfig(axes="channel", gate="fixed"))
        elif dynamic:
            self.make_dynamic()

    def make_dynamic(self):
        settings = DynamicConfig(axes="channel", gate_hidden=1, gate_bias=(0.0,))
        make_dynamic(self.backbone, settings)
        (conv,) = self.backbone
        nn.init.zeros_(conv.cheap.channel[0])
        conv.gate.weight1.data = torch.tensor([[1.0, 0]])
        conv.gate.weight2.data = torch.tensor([[5.0], [-5]])

    def forward(self, inputs, data_samples=None, mode="tensor"):
        first, second = self.backbone(inputs).mean((2, 3, 4)).unbind(1)
        for sample, row in zip(data_samples, torch.stack([second, first / 2], 1), strict=True):
            sample.pred_score = row
        return data_samples


@pytest.fixture(autouse=True)
def _no_config_is_formatted(monkeypatch):
    """Which takes mmengine as long as these runs."""
    monkeypatch.setattr(Config, "pretty_text", "")


def evaluated(folder, deals=4, dynamic=True):
    config = Config(toy.runner_settings(folder, hooks=[dict(type="CostHook")]))
    config.experiment_name = "alike"
    config.model = dict(type="AnswersItsGate", dynamic=dynamic)
    config.test_dataloader.update(batch_size=2, dataset=dict(type="TellingClips"))
    config.test_evaluator = [dict(type="CostMetric")]
    torch.save({"state_dict": AnswersItsGate(dynamic).state_dict()}, folder / "w.pth")
    job = Evaluation("net.py", {}, folder / "w.pth", folder / "out", chunk=2, deals=deals)
    return job.folder, evaluate(config, job)[1]


def test_a_network_that_answers_its_gate_is_as_right_as_the_choices_fit(tmp_path):
    folder, result = evaluated(tmp_path)
    samples = read_samples(folder)
    assert samples.policy.tolist() == [[0], [0], [1]]
    assert samples.share.tolist() == [1, 1, 0.5]
    # Of three clips in a ring two get the choices of the other class, whatever the ring.
    judged = result.choices["judged"]
    told = {name: judged[name] for name in ("own", "dealt", "one_policy", "deals", "samples")}
    assert told == dict(
        own=1.0, dealt=pytest.approx(1 / 3), one_policy=pytest.approx(2 / 3), deals=4, samples=3
    )
    # One of three differs: its deviation is √(1/3), the error a third.
    assert judged["over_one_policy"] == dict(mean=pytest.approx(1 / 3), error=pytest.approx(1 / 3))
    assert result.choices["policy"] == {"backbone.0": [pytest.approx(OPEN, abs=1e-5), 0.0]}
    assert result.choices["policy_share"] == 1
    # A share of 0.5 where -log of its softmax over (0, OPEN / 2) is 0.47, else of (OPEN, OPEN / 2).
    assert samples.loss == pytest.approx([0.4741] * 3, abs=1e-3)
    assert read_result(folder) == result
    assert result.choices["verdict"].startswith(
        "The choices save MACs: they take 83 % in the mean and the most frequent policy 100 %."
    )
    assert f"vared-mm freeze {folder} frozen.pth --same-macs" in result.choices["verdict"]


def test_an_interrupted_judgement_goes_on_where_it_stopped(tmp_path, monkeypatch):
    batches = []
    step = AnswersItsGate.test_step

    def counting(self, data):
        batches.append(len(data["inputs"]))
        if len(batches) == 9:
            raise KeyboardInterrupt
        return step(self, data)

    monkeypatch.setattr(AnswersItsGate, "test_step", counting)
    with pytest.raises(KeyboardInterrupt):
        evaluated(tmp_path)
    _, result = evaluated(tmp_path)
    # Two chunks with their own choices, five plans of the first; the third one of the second.
    assert batches == [2, 1, *[2] * 5, 1, 1, *[1] * 5]
    assert result.choices["judged"]["dealt"] == pytest.approx(1 / 3)


def test_without_being_asked_it_tells_what_the_record_holds(tmp_path):
    _, result = evaluated(tmp_path, deals=0)
    assert (result.choices["judged"], result.choices["verdict"]) == (None, None)
    assert (result.choices["policies"], result.choices["first_four"]) == (2, 1)


def test_what_choices_are_worth_is_kept_where_they_are_not_judged_again(tmp_path):
    judged = evaluated(tmp_path)[1].choices
    _, again = evaluated(tmp_path, deals=0)
    assert judged["judged"]["deals"] == 4
    assert again.choices == judged
    assert evaluated(tmp_path, deals=3)[1].choices["judged"]["deals"] == 3


def test_a_static_model_says_nothing_of_choices(tmp_path):
    folder, result = evaluated(tmp_path, dynamic=False)
    assert result.choices is None
    assert read_samples(folder).policies is None
    assert "choices" not in (folder / "result.json").read_text().replace('"choices": null', "")


def test_gates_that_are_fixed_are_not_judged_nor_to_be_fixed_again(tmp_path):
    folder, result = evaluated(tmp_path, dynamic="fixed")
    assert (result.choices["judged"], result.choices["verdict"]) == (None, None)
    assert result.choices["policies"] == 1
    assert read_samples(folder).share.tolist() == [1, 1, 1]


class Windows(nn.Module):
    """Runs each sample's four views in two passes of two."""

    def __init__(self, share):
        super().__init__()
        self.net = toy.ToyRecognizer().backbone
        make_dynamic(self.net, DynamicConfig(targets="(?P<block>)[14]", share=share))
        for name, parameter in self.net.named_parameters():
            if name.endswith("gate.weight2"):
                nn.init.normal_(parameter, std=3)

    def forward(self, views):
        return torch.stack([self.net(part.flatten(0, 1)) for part in views.split(2, 1)])


@pytest.mark.parametrize(("share", "gates"), [("conv", ["net.1", "net.4"]), ("block", ["net.1"])])
def test_dealt_gates_are_those_of_the_other_sample_pass_by_pass_and_cost_as_much(share, gates):
    torch.manual_seed(0)
    model, views = Windows(share).eval(), torch.randn(3, 4, 2, 4, 6, 6) * 3
    with torch.no_grad(), record_cost(model) as own:
        before = model(views)
    told = {name: gates.numpy() for name, gates in own.decisions(3).items()}
    assert {name: answers.shape for name, answers in told.items()} == dict.fromkeys(
        gates, (3, 2, 2, 4)
    )
    samples = [{name: answers[i] for name, answers in told.items()} for i in range(3)]
    dealer = dealt(samples, seed=0)
    with torch.no_grad(), forced(model) as follow:
        follow(plan_of(samples))
        assert torch.equal(model(views), before)
        follow(plan_of([samples[i] for i in dealer]))
        with record_cost(model) as others:
            model(views)
    for name, answers in others.decisions(3).items():
        assert torch.equal(answers, torch.tensor(told[name][dealer]))
    assert len({*own.share(3).tolist()}) > 1
    assert others.share(3).tolist() == pytest.approx(own.share(3)[dealer].tolist())


@pytest.mark.parametrize("seed", range(5))
def test_nobody_is_dealt_its_own_and_all_choices_are_dealt_once(seed):
    gates = [{"a": np.zeros((1, views, 2))} for views in (1, 1, 3, 1, 3, 2)]
    dealer = dealt(gates, seed)
    assert sorted(dealer) == list(range(6))
    # The last one has no like.
    assert [i for i in range(6) if dealer[i] == i] == [5]
    assert all(gates[i]["a"].shape == gates[k]["a"].shape for i, k in enumerate(dealer))


def test_policies_are_counted_by_what_is_open_the_most_frequent_first():
    clips = [[[0.2, 0]], [[0, 0.5]], [[0.4, 0]], [[0.6, 0.1]], [[0.6, 0]]]
    policies = policies_of([{"a": np.array([clip])} for clip in clips])
    assert policies.chosen[:, 0].tolist() == [0, 1, 0, 2, 0]
    assert policies.answers.tolist() == [[pytest.approx(0.4), 0], [0, 0.5], [0.6, 0.1]]
    assert policies.names.tolist() == ["a", "a"]


def test_views_choose_for_themselves_and_may_be_of_unlike_number():
    two = {"a": np.array([[[1.0, 0], [0, 1]]])}
    one = {"a": np.array([[[0, 1.0]]])}
    policies = policies_of([two, one])
    assert policies.chosen.tolist() == [[1, 0], [0, -1]]
    assert rates(policies.chosen, 2).tolist() == [[0.5, 0.5], [1, 0]]
    # A gate of four frames beside one of two: neighbours belong together.
    frames = {"a": np.array([[[1.0], [0], [0], [0]]]), "b": np.array([[[3.0], [4]]])}
    assert views_of(frames).tolist() == [[0.5, 3], [0, 4]]


def test_spearman_is_scipy_s_with_ties_and_without_what_is_no_number():
    chance = np.random.default_rng(0)
    a, b = chance.integers(0, 5, 50).astype(float), chance.normal(size=50)
    b += a
    assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert spearman(np.append(a, 9), np.append(b, np.nan)) == spearman(a, b)
    assert spearman(np.ones(50), b) is None


def test_the_record_by_hand():
    share = np.array([0.25, 0.25, 0.5, 1.0])
    gates = [{"a": np.array([[[0, 1.0]]])}] * 2 + [{"a": np.array([[[v, v]]])} for v in (0.5, 0.7)]
    told = choices_of(share, np.arange(4.0), policies_of(gates), 0.5)
    assert told["share_std"] == pytest.approx(math.sqrt(0.375 / 4))
    assert told["share_quartiles"] == [0.25, 0.375, 0.625]
    assert (told["policies"], told["first_four"]) == (2, 1)
    assert told["spearman"] == pytest.approx(spearmanr(share, range(4)).statistic)
    assert lines(told)["share, quartiles (%)"] == "25.0, 37.5, 62.5"


def test_the_share_of_the_first_policy_is_not_that_of_the_samples_that_chose_it():
    """Of two windows each sample computes half of the channels in one, by the first policy, and all
    in the other: three quarters."""
    model = nn.Sequential(nn.Conv3d(2, 4, 1))
    make_dynamic(model, DynamicConfig())
    gates = [{"0": np.array([[[0, 0.5, 0.3, 0]], [[0.9, v, 0.3, 0]]])} for v in (0, 0.5)]
    samples = samples_of(["a", "b"], [0, 1], ["0"], np.array([0.75, 0.75]))
    policies = policy_arrays(policies_of(gates))
    samples = replace(samples, **policies, layer_frames=np.array([8]))
    assert share_of_first(model, samples) == 0.5


@pytest.mark.parametrize(
    ("wrong", "begins"),
    [
        (8, "The choices are worth 8.0 ± 2.7 points over one policy for all, 10.0 ± 3.0 over the"),
        (
            3,
            "One policy serves all clips as well: freeze it (CALL). As far as 100 samples tell, ",
        ),
        (-2, "One policy serves all clips as well: freeze it (CALL)."),
    ],
)
def test_choices_are_worth_what_two_errors_exceed(wrong, begins):
    """Of 100 samples all but three are right, `wrong` fewer of them with one policy."""
    own = (np.arange(100) >= 3).astype(float)
    one = (np.arange(100) >= 3 + wrong).astype(float)
    dealt = np.tile(np.arange(100) >= 13, (2, 1)).astype(float)
    assert verdict(judge(own, dealt, one), "CALL", 0.5, 0.51).startswith(begins)


def test_a_verdict_tells_what_macs_the_points_were_paid_with():
    half, all_right = (np.arange(100) % 2).astype(float), np.ones(100)
    told = verdict(judge(all_right, half[None], half), "CALL", 0.40, 0.28)
    assert "for more MACs: they take 40 % in the mean and the most frequent policy 28 %" in told
    assert told.endswith("CALL --same-macs")
    told = verdict(judge(half, half[None], all_right), "CALL", 0.40, 0.47)
    assert told.startswith("The choices pay for MACs in accuracy: they take 40 %")


def test_choices_that_save_macs_are_not_to_be_frozen():
    right = np.ones(100)
    told = verdict(judge(right, right[None], right), "CALL", 0.6, 1.0)
    assert told.startswith(
        "The choices save MACs: they take 60 % in the mean and the most frequent"
    )
    assert told.endswith("policy of as many MACs as theirs: CALL --same-macs")


def test_what_no_label_tells_is_not_judged():
    nothing = np.full(3, np.nan)
    assert judge(nothing, nothing[None], nothing) is None
    some = np.array([1.0, 0, np.nan])
    assert judge(some, some[None], some)["samples"] == 2


def test_deals_that_change_nothing_are_worth_nothing_to_the_last_digit():
    own = np.array([0.1, 0.2, 0.7])
    told = judge(own, np.tile(own, (3, 1)), own)
    assert told["over_dealt"] == told["over_one_policy"] == {"mean": 0, "error": 0}


def test_losses_by_hand():
    scores = torch.tensor([0.25, 0.75])
    sample = dict(gt_label=torch.tensor([0]), pred_score=scores)
    assert label_loss(sample) == pytest.approx(math.log(4))
    logits = torch.tensor([0.0, math.log(3)])
    assert label_loss({**sample, "pred_score": logits}) == pytest.approx(math.log(4))
    assert math.isfinite(label_loss({**sample, "pred_score": torch.tensor([0.0, 1.0])}))
    assert math.isnan(label_loss({**sample, "gt_label": torch.tensor([0, 1])}))

    class Head:
        ignore_index = 9

    image = dict(
        gt_sem_seg=dict(data=torch.tensor([[[0, 9, 1]]])),
        seg_logits=dict(data=torch.tensor([[[0.0, 7, 0]], [[math.log(3), 0, math.log(3)]]])),
    )
    assert pixel_loss(Head, image, 0.5) == pytest.approx((math.log(4) + math.log(4 / 3)) / 2)
    assert pixel_loss(Head, {}, 0.75) == 0.25


@pytest.mark.parametrize(
    ("score", "loss"), [(math.log(3), math.log(4 / 3)), (-math.log(3), math.log(4)), (-30, 30)]
)
@pytest.mark.parametrize("label", [0, 1])
def test_the_loss_of_a_single_score_is_of_what_mmsegmentation_makes_of_it(score, loss, label):
    from mmseg.models.segmentors.base import BaseSegmentor
    from mmseg.structures import SegDataSample

    head = SimpleNamespace(ignore_index=9, threshold=0.4)
    model = SimpleNamespace(decode_head=head, align_corners=False)
    scores = torch.tensor([[[[score, 7.0]]]]) * (2 * label - 1)
    sample = SegDataSample(metainfo=dict(ori_shape=(1, 2)))
    (sample,) = BaseSegmentor.postprocess_result(model, scores, [sample])
    sample = {**sample.to_dict(), "gt_sem_seg": dict(data=torch.tensor([[[label, 9]]]))}
    # Of a score of 30 float32 makes 1, whose loss would be infinite.
    wanted = loss if label or score > -30 else -math.log(2**-24)
    assert pixel_loss(head, sample, 0.5) == pytest.approx(wanted)
