"""`--cache-packed-weights`: the second start reads what the first one packed, and says the same."""

import os
import shutil
import subprocess

import pytest

GREEDY = ["--prompt", "the cat and the", "--max-tokens", 24, "--temperature", 0]
CACHED = [*GREEDY, "--cache-packed-weights"]
WRITTEN = "writing packed weights into"
READ = "packed weights read from"
REPLACED = "written anew"


@pytest.fixture
def folder(quantized, tmp_path):
    copy = tmp_path / "copy-w4a8"
    shutil.copytree(quantized, copy)
    return copy


def packed(folder):
    return sorted(folder.glob("packed-weights.*"))


def test_the_second_start_reads_what_the_first_one_packed(liquid, folder):
    plain = liquid.ok("run", folder, *GREEDY)
    assert not packed(folder), "nothing is kept unless asked for"
    first = liquid.ok("run", folder, *CACHED, "--verbose")
    assert first.stdout == plain.stdout
    assert WRITTEN in first.stderr and READ not in first.stderr
    (file,) = packed(folder)
    before = file.stat()
    second = liquid.ok("run", folder, *CACHED, "--verbose")
    assert second.stdout == plain.stdout
    assert READ in second.stderr and WRITTEN not in second.stderr
    assert file.name in second.stderr
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert READ not in liquid.ok("run", folder, *GREEDY, "--verbose").stderr


def test_the_environment_asks_for_it_too(liquid, folder):
    liquid.environment["LIQUIDGEMM_CACHE_PACKED_WEIGHTS"] = "1"
    plain = liquid.ok("run", folder, *GREEDY)
    assert len(packed(folder)) == 1
    assert READ in liquid.ok("run", folder, *GREEDY, "--verbose").stderr
    assert liquid.ok("run", folder, *GREEDY).stdout == plain.stdout


def test_evaluation_and_benchmarks_share_the_file(liquid, folder, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("and the end of the thing and " * 20)
    evaluation = ["eval", "ppl", folder, "--text", text, "--tokens", 64, "--context", 64, "--json"]
    plain = liquid.ok(*evaluation).json()
    liquid.ok("run", folder, *CACHED)
    result = liquid.ok(*evaluation, "--cache-packed-weights", "--verbose")
    assert READ in result.stderr
    assert result.json()["results"][0]["perplexity"] == plain["results"][0]["perplexity"]
    short = ["--input-len", 24, "--output-len", 4, "--num-iters", 1, "--cache-packed-weights"]
    assert READ in liquid.ok("bench", "latency", folder, *short, "--verbose").stderr
    assert len(packed(folder)) == 1


@pytest.mark.parametrize("precision", ["fp32", "w8a8", "w4a16"])
def test_every_precision_has_its_own_file(liquid, model, tmp_path, precision):
    folder = tmp_path / "copy"
    shutil.copytree(model, folder)
    arguments = ["run", folder, *GREEDY, "--precision", precision]
    plain = liquid.ok(*arguments)
    assert liquid.ok(*arguments, "--cache-packed-weights").stdout == plain.stdout
    assert [file.name.split(".")[1] for file in packed(folder)] == [precision]
    again = liquid.ok(*arguments, "--cache-packed-weights", "--verbose")
    assert again.stdout == plain.stdout and READ in again.stderr


def test_a_model_that_is_quantized_on_first_use_keeps_it_in_the_cache(liquid, model, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(model, folder)
    first = liquid.ok("run", folder, *CACHED)
    assert not packed(folder)
    assert len(list((liquid.folder / "cache").rglob("packed-weights.*"))) == 1
    # Another precision's file in the model's folder does not make it another model.
    liquid.ok("run", folder, *CACHED, "--precision", "w8a8")
    second = liquid.ok("run", folder, *CACHED, "--verbose")
    assert second.stdout == first.stdout
    assert READ in second.stderr and "quantizing" not in second.stderr


def test_a_gguf_file_keeps_it_in_the_cache(liquid, gguf):
    for precision in ("auto", "w8a8"):
        arguments = ["run", gguf, *CACHED, "--precision", precision, "--verbose"]
        first = liquid.ok(*arguments)
        assert WRITTEN in first.stderr
        second = liquid.ok(*arguments)
        assert READ in second.stderr and second.stdout == first.stdout
    assert list(gguf.parent.iterdir()) == [gguf]
    assert len(list((liquid.folder / "cache").rglob("*packed-weights.*"))) == 2


def test_a_damaged_file_is_replaced_with_one_warning(liquid, folder):
    plain = liquid.ok("run", folder, *CACHED)
    (file,) = packed(folder)
    good = file.read_bytes()
    for bad in (good[: len(good) // 2], b"", os.urandom(5000), good[:5000] + good[5001:] + b"x"):
        file.write_bytes(bad)
        outcome = liquid.ok("run", folder, *CACHED)
        assert outcome.stdout == plain.stdout
        assert outcome.stderr.count(REPLACED) == 1, outcome.stderr
        assert file.read_bytes() == good


def test_a_checkpoint_that_changed_is_packed_again(liquid, folder):
    plain = liquid.ok("run", folder, *CACHED)
    shard = next(folder.glob("*.safetensors"))
    os.utime(shard, ns=(1, 1))
    outcome = liquid.ok("run", folder, *CACHED)
    assert outcome.stdout == plain.stdout and REPLACED in outcome.stderr
    assert READ in liquid.ok("run", folder, *CACHED, "--verbose").stderr


def test_a_checkpoint_that_is_replaced_takes_it_along(liquid, model, folder):
    liquid.ok("run", folder, *CACHED)
    assert packed(folder)
    liquid.ok("quantize", model, "-o", folder, "--overwrite", "--quiet")
    assert not packed(folder)


def test_a_place_that_takes_no_file_is_no_reason_to_stop(liquid, folder):
    plain = liquid.ok("run", folder, *CACHED)
    (file,) = packed(folder)
    file.unlink()
    if os.geteuid() == 0:
        file.mkdir()  # permissions do not stop root
    else:
        folder.chmod(0o500)
    try:
        outcome = liquid.ok("run", folder, *CACHED)
        assert outcome.stdout == plain.stdout
        assert "not kept" in outcome.stderr
    finally:
        folder.chmod(0o700)
    assert not list(folder.glob("*.tmp-*"))


def test_several_first_starts_at_once_leave_one_good_file(liquid, folder):
    plain = liquid.ok("run", folder, *GREEDY)
    starts = [
        liquid.start("run", folder, *CACHED, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for _ in range(4)
    ]
    for start in starts:
        assert start.communicate()[0] == plain.stdout
        assert start.returncode == 0
    assert len(packed(folder)) == 1
    assert READ in liquid.ok("run", folder, *CACHED, "--verbose").stderr


def test_random_weights_are_not_kept(liquid):
    outcome = liquid.ok(
        *("bench", "latency", "--preset", "smollm2-135m", "--input-len", 8, "--output-len", 3),
        *("--num-iters", 1, "--cache-packed-weights"),
    )
    assert "models in files only" in outcome.stderr
