"""What the Triton kernels take of a card that is not there: shared memory, registers and spills, for sm_86 (RTX 30) as
for sm_90 (H100, H200). Kernels tuned on the one must run on the other, which has 99 KiB of shared memory a block
instead of 227 and a quarter of its bandwidth.

Each wrapper of `app.training.triton_kernels` is called with tensors that hold no data, so what is compiled is what a
training would launch: its block sizes, its warps, its types. ptxas, which comes with Triton, says the rest.
Needs Triton, no card. Prints one JSON line for each kernel, model and target. Run: python -m benchmarks.ampere
"""

import json
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from app.training import triton_kernels

TARGETS = {86: "sm_86", 90: "sm_90a"}
"""Compute capability -> what ptxas calls it."""
RANK = 16
TOKENS = 2048
LOGITS = 1024
"""Rows of a chunk of the loss."""
TYPES = {torch.bfloat16: "*bf16", torch.float32: "*fp32", torch.int64: "*i64", int: "i32", float: "fp32"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Widths:
    """Widths of a model's layers, in numbers a token."""

    model: str
    width: int
    heads: int
    kv_heads: int
    dim: int
    inner: int
    vocabulary: int
    has_head_norms: bool


MODELS = (
    Widths(
        model="Qwen3-1.7B", width=2048, heads=16, kv_heads=8, dim=128, inner=6144, vocabulary=151_936,
        has_head_norms=True,
    ),
    Widths(
        model="SmolLM2-135M", width=576, heads=9, kv_heads=3, dim=64, inner=1536, vocabulary=49_152,
        has_head_norms=False,
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A kernel as a wrapper starts it. Made by `launches`."""

    kernel: Any
    """Triton's JITFunction."""
    arguments: tuple[Any, ...]
    num_warps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What one compiled kernel takes; registers are those of a thread, spills what of them goes to memory."""

    model: str
    kernel: str
    target: str
    num_warps: int
    shared_bytes: int
    registers: int
    spill_store_bytes: int
    spill_load_bytes: int


class _Recorder:
    """Stands in for a kernel: notes how it is started."""

    def __init__(self, kernel: Any, found: list[Launch]) -> None:
        self._kernel, self._found = kernel, found

    def __getitem__(self, grid: Any) -> Callable[..., None]:
        def launch(*arguments: Any, num_warps: int) -> None:
            self._found.append(Launch(kernel=self._kernel, arguments=arguments, num_warps=num_warps))

        return launch


def kernel_names() -> list[str]:
    """Names of all jit kernels of the module."""
    return [name for name, value in vars(triton_kernels).items() if isinstance(value, triton.JITFunction)]


def launches(widths: Widths) -> list[Launch]:
    """All that the wrappers start for a model's shapes."""
    found: list[Launch] = []
    kernels = {name: getattr(triton_kernels, name) for name in kernel_names()}
    for name, kernel in kernels.items():
        setattr(triton_kernels, name, _Recorder(kernel, found))
    try:
        _call_wrappers(widths)
    finally:
        for name, kernel in kernels.items():
            setattr(triton_kernels, name, kernel)
    return found


def _call_wrappers(widths: Widths) -> None:
    """As `app.training.fused` and the loss call them."""

    def empty(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    turned, eps = widths.heads + widths.kv_heads, 1e-6
    x, weight, scale = empty(TOKENS, widths.width), empty(widths.width), empty(TOKENS, dtype=torch.float32)
    beside = empty(TOKENS, widths.width + 3 * RANK)[:, : widths.width]
    triton_kernels.rms_norm(x, weight, eps, beside)
    triton_kernels.add_rms_norm(x, x, weight, eps, beside)
    for residual in (x, None):
        triton_kernels.rms_norm_backward(x, x, scale, weight, residual)
    qkv, table = empty(TOKENS, (turned + widths.kv_heads) * widths.dim), empty(TOKENS, widths.dim)
    norm = empty(turned, widths.dim) if widths.has_head_norms else None
    triton_kernels.rotate(qkv, turned, table, table, norm, eps)
    for heads in (widths.heads, widths.kv_heads):
        of_heads, part = empty(TOKENS, heads, widths.dim), qkv[:, : heads * widths.dim]
        triton_kernels.rotate_backward(of_heads, part, heads, table, table, norm, eps, part)
    gate_up = empty(TOKENS, 2 * widths.inner)
    triton_kernels.swiglu(gate_up)
    triton_kernels.swiglu_backward(empty(TOKENS, widths.inner), gate_up)
    triton_kernels.cross_entropy_(empty(LOGITS, widths.vocabulary), empty(LOGITS, dtype=torch.int64))


def compile_for(launch: Launch, capability: int) -> Any:
    """Triton's CompiledKernel. What a launch would find out about its arguments is said the same way: pointers and
    numbers that 16 divides are known to be so."""
    signature: dict[str, str] = {}
    constants: dict[str, Any] = {}
    hints: dict[tuple[int, ...], list[list[Any]]] = {}
    for parameter, value in zip(launch.kernel.params, launch.arguments, strict=True):
        if parameter.is_constexpr:
            signature[parameter.name], constants[parameter.name] = "constexpr", value
            continue
        is_tensor = isinstance(value, torch.Tensor)
        signature[parameter.name] = TYPES[value.dtype if is_tensor else type(value)]
        if is_tensor or isinstance(value, int) and value % 16 == 0:
            hints[(parameter.num,)] = [["tt.divisibility", 16]]
    source = ASTSource(launch.kernel, signature, constants, hints)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": launch.num_warps})


def measure(launch: Launch, model: str, capability: int) -> Resources:
    compiled = compile_for(launch, capability)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(compiled.asm["ptx"])
        command = [
            str(_ptxas()),
            "-v",
            f"--gpu-name={TARGETS[capability]}",
            str(source),
            "-o",
            f"{folder}/kernel.cubin",
        ]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    numbers = [
        int(re.search(pattern, said)[1])  # type: ignore[index]
        for pattern in (r"Used (\d+) registers", r"(\d+) bytes spill stores", r"(\d+) bytes spill loads")
    ]
    return Resources(
        model=model,
        kernel=launch.kernel.__name__,
        target=TARGETS[capability],
        num_warps=launch.num_warps,
        shared_bytes=compiled.metadata.shared,
        registers=numbers[0],
        spill_store_bytes=numbers[1],
        spill_load_bytes=numbers[2],
    )


def _ptxas() -> Path:
    return Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"


def resources(capability: int) -> Iterator[Resources]:
    """What every launch of every model takes."""
    for widths in MODELS:
        for launch in launches(widths):
            yield measure(launch, widths.model, capability)


def main() -> None:
    for capability in TARGETS:
        for found in resources(capability):
            print(json.dumps(asdict(found)), flush=True)


if __name__ == "__main__":
    main()
