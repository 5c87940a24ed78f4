"""The sub-command `export`: its arguments and what it does. The command line imports this, so nothing heavy here."""

import argparse

from app.files.user_files import user_path


def add_export_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--merged", action="store_true", help="base and adapter in one, as safetensors that vLLM and transformers load")
    add("--gguf", metavar="TYPE", help="the same for llama.cpp and Ollama: F32, F16, BF16, Q8_0, ...")
    add("--adapter", metavar="NAME", help="sft, grm, evolve or base; left out, that of the last stage that was kept")
    add("--dtype", choices=("float32", "bfloat16"), help="in which --merged stores weights; left out, float32")
    add("--out", type=user_path, metavar="DIR", help="a new folder; left out, one under the run's export/")


def export(arguments: argparse.Namespace) -> None:
    from app.export.exporting import Wanted, export_run

    wanted = Wanted(
        merged=arguments.merged,
        gguf=arguments.gguf,
        adapter=arguments.adapter,
        dtype=arguments.dtype,
        out=arguments.out,
    )
    print(export_run(arguments.run, wanted))
