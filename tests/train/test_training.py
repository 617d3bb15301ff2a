"""Models, training, export and the teacher's sampler, in small, on the CPU. Needs PyTorch and transformers."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import checkpoint  # noqa: E402
import corpus  # noqa: E402
import documents  # noqa: E402
import drafts  # noqa: E402
import grammar  # noqa: E402
import make_corpus  # noqa: E402
import tokenizers  # noqa: E402
import training  # noqa: E402
import twins  # noqa: E402
from config import Config  # noqa: E402
from model import CausalLM  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
TOKENIZER = ROOT / "models/latent-mini/tokenizer.json"
SMALL = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "moe_intermediate_size": 32}
torch.set_num_threads(1)


def small(config: Config) -> Config:
    heads = min(config.num_key_value_heads, 4)
    return replace(
        config,
        **SMALL,
        num_hidden_layers=2,
        num_key_value_heads=heads,
        first_k_dense_replace=min(config.first_k_dense_replace, 2),
        head_dim=16,
        kv_lora_rank=32,
        qk_rope_head_dim=16,
        qk_nope_head_dim=16,
        v_head_dim=16,
    )


SHAPES = {"latent-mini": Config(), **twins.KINDS}


@pytest.mark.parametrize("name", SHAPES)
def test_an_export_is_what_transformers_computes(name, tmp_path):
    torch.manual_seed(1)
    model = CausalLM(small(SHAPES[name]))
    for parameter in model.parameters():
        parameter.data.normal_(std=0.1)
    checkpoint.export(model, tokenizers.Tokenizer.from_file(str(TOKENIZER)), tmp_path)
    ours = checkpoint.load(tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, dtype=torch.float32, attn_implementation="eager"
    )
    assert type(theirs).__name__ == SHAPES[name].architecture
    ids = torch.randint(8, 4096, (2, 40))
    with torch.no_grad():
        a, b = theirs(ids).logits, ours(ids).logits
    assert float((a - b).abs().max() / a.abs().max()) < 1e-4


def test_the_bundled_model_with_its_drafting_layer_stays_below_the_limit(tmp_path):
    model = CausalLM(Config())
    size = checkpoint.export(model, tokenizers.Tokenizer.from_file(str(TOKENIZER)), tmp_path)
    assert size <= checkpoint.MAX_BYTES == 15 * 2**20
    names = {name for name in model.state_dict() if name.startswith("model.layers.7.")}
    for part in ("enorm", "hnorm", "eh_proj", "shared_head.norm", "self_attn.kv_b_proj", "mlp.experts.3.up_proj"):
        assert f"model.layers.7.{part}.weight" in names
    assert json.loads((tmp_path / "config.json").read_text())["num_nextn_predict_layers"] == 1


def test_twins_differ_in_attention_alone():
    facts = {kind: twins.facts(kind) for kind in twins.KINDS}
    assert len({f["other_parameters"] for f in facts.values()}) == 1
    bytes_a_token = {kind: f["cache_bytes_a_token"] for kind, f in facts.items()}
    assert bytes_a_token == {"MHA": 8192, "GQA": 2048, "MQA": 1024, "MLA": 2560}


@pytest.fixture(scope="module")
def small_corpus(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("corpus")
    tok = tokenizers.Tokenizer.from_file(str(TOKENIZER))
    tok.save(str(out / "tokenizer.json"))
    told = [
        {"kind": "grammar", "seed": i, "turns": [["user", ask], ["assistant", story]]}
        for i, (ask, story) in enumerate(grammar.stories(1, 60))
    ]
    corpus.Split.encode(tok, told[10:]).save(out / "train.npz")
    corpus.Split.encode(tok, told[:10]).save(out / "held-out.npz")
    return out


def test_streams_hold_every_document_once_and_rows_repeat_by_seed(small_corpus):
    split = corpus.Split.load(small_corpus / "train.npz")
    rng = __import__("numpy").random.default_rng(1)
    stream = split.shuffled(rng)
    assert sorted(stream.tolist()) == sorted(split.tokens.tolist()) and stream.tolist() != split.tokens.tolist()
    first = [next(corpus.batches(split, 5, 4, 64)) for _ in range(2)]
    assert torch.equal(first[0], first[1]) and first[0].shape == (4, 65)
    source = corpus.prefetch(corpus.batches(split, 5, 4, 64))
    assert torch.equal(next(source), first[0])
    source.close()


def test_training_lowers_both_losses_and_drafts_come_to_agree(small_corpus, tmp_path):
    torch.manual_seed(1)
    model = CausalLM(small(Config()))
    split = corpus.Split.load(small_corpus / "train.npz")
    held = corpus.Split.load(small_corpus / "held-out.npz").rows(64, 8)
    before = training.validate(training.losses, model, held, 8)
    recipe = training.Recipe(40, rows=8, context=64, warmup=5, log_every=10, validate_every=20)
    source = corpus.batches(split, 1, 8, 64)
    records = training.train(model, training.losses, source, held, recipe, tmp_path / "loss.csv", say=lambda *a, **k: 0)
    after = training.validate(training.losses, model, held, 8)
    assert all(b < a - 1 for a, b in zip(before, after, strict=True))
    rates = drafts.acceptance(model, held)
    assert 0.2 < rates["greedy"] <= 1 and 0.1 < rates["sampled"] <= 1
    with (tmp_path / "loss.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [0, 10, 20, 30, 39] == [r["step"] for r in records]
    assert float(rows[-1]["validation"]) == pytest.approx(after[0], abs=1e-4) and not rows[1]["validation"]
    assert float(model.gates()[0].e_score_correction_bias.abs().sum()) > 0


def test_a_drafting_layer_that_copies_the_model_is_always_accepted():
    """With the same distribution for both, min(p, q) sums to one."""
    model = CausalLM(small(Config()))
    with torch.no_grad():
        model.model.embed_tokens.weight.zero_()  # all logits are zero: p and q are uniform
    rates = drafts.acceptance(model, torch.randint(0, 4096, (2, 33)))
    assert rates == {"greedy": 1.0, "sampled": pytest.approx(1.0, abs=1e-3)}


def script(name: str, *arguments: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, ROOT / "tools/train" / name, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={"OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_train_writes_a_checkpoint_and_its_record(small_corpus, tmp_path):
    script("train.py", "--corpus", small_corpus, "--out", tmp_path, "--steps", 2, "--rows", 2, "--context", 32)
    record = json.loads((tmp_path / "train.json").read_text())
    assert record["recipe"]["steps"] == 2 and set(record["acceptance"]) == {"greedy", "sampled"}
    assert checkpoint.load(tmp_path).drafts and (tmp_path / "loss.csv").exists()


def test_twins_go_on_where_they_stopped(small_corpus, tmp_path):
    plan = training.Recipe(2, rows=2, context=32, warmup=1, log_every=1, validate_every=1)
    (tmp_path / "plan.json").write_text(json.dumps(vars(plan)))
    arguments = ("--corpus", small_corpus, "--out", tmp_path, "--rows", 2, "--context", 32)
    script("twins.py", *arguments, "--seeds", 1)
    first = (tmp_path / "twins.csv").read_text()
    script("twins.py", *arguments, "--seeds", 2)
    with (tmp_path / "twins.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert (tmp_path / "twins.csv").read_text().startswith(first)
    assert [(r["kind"], r["seed"]) for r in rows] == [(k, s) for s in "12" for k in ("MHA", "GQA", "MQA", "MLA")]
    with (tmp_path / "curves.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 8 * 2
    for kind, config in twins.KINDS.items():
        assert Config.read(tmp_path / f"config-{kind}.json") == config


def test_a_corpus_is_made_of_parts(tmp_path):
    texts = [story for _, story in grammar.stories(9, 120)]
    written = [
        {"kind": "dressed", "seed": i, "turns": [["user", "Tell."], ["assistant", t]]} for i, t in enumerate(texts)
    ]
    documents.write_part(tmp_path / "stories/dressed/1-00.jsonl.xz", written + written[:5])
    answers = [
        {"kind": "answers", "seed": i, "turns": [["user", "What?"], ["assistant", t[:60]]]} for i, t in enumerate(texts)
    ]
    documents.write_part(tmp_path / "stories/answers/1-00.jsonl.xz", answers)
    script(
        "make_corpus.py",
        "--stories",
        tmp_path / "stories",
        "--tokenizer",
        TOKENIZER,
        "--grammar",
        100,
        "--talk",
        20,
        "--committed-bytes",
        4000,
        "--out",
        tmp_path / "out",
    )
    facts = json.loads((tmp_path / "out/corpus.json").read_text())
    assert facts["documents"]["held-out"]["dressed"] == 3  # seeds 0, 50 and 100
    assert facts["documents"]["train"]["dressed"] == 117
    assert facts["tokens"]["train"] == len(corpus.Split.load(tmp_path / "out/train.npz").tokens)
    held = [json.loads(line) for line in (tmp_path / "out/held-out.jsonl").read_text().splitlines()]
    assert held and all(line["text"].startswith(documents.BEGIN) for line in held)
    assert (tmp_path / "out/held-out.jsonl").stat().st_size <= 4000
    assert make_corpus.SOURCES["teacher"].endswith("Apache-2.0")
