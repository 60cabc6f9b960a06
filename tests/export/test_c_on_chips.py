"""A header on an emulated Cortex-M3, which has neither an operating system nor a floating-point unit."""

import re

import numpy as np
import pytest

import dlcore as dl
from support.c_compiler import STRICT, Library, compiler, run

# Calls of the debugger, by which the program writes and ends.
PROGRAM = """\
#include "net.h"
#include "rows.h"

static void ask(int what, const void *about) {
    register int r0 __asm__("r0") = what;
    register const void *r1 __asm__("r1") = about;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}

static void write_bits(uint32_t bits) {
    char text[10];
    int i;
    for (i = 0; i < 8; ++i) text[i] = "0123456789abcdef"[bits >> (28 - 4 * i) & 15];
    text[8] = '\\n';
    text[9] = 0;
    ask(4, text);
}

void start(void) {
    union {
        float f;
        uint32_t u;
    } bits;
    RESULT y[NET_OUTPUTS];
    int i, j;
    for (i = 0; i < ROWS; ++i) {
        net_logits(rows[i], y);
        for (j = 0; j < NET_OUTPUTS; ++j) {
            IN_BITS = y[j];
            write_bits(bits.u);
        }
    }
    ask(0x18, (const void *)0x20026);
    for (;;) {
    }
}

__attribute__((section(".vectors"), used)) static const struct {
    uint32_t stack;
    void (*start)(void);
} vectors = {0x20010000u, start};
"""

# Nothing is to be initialized: all data are constants.
LAYOUT = """\
ENTRY(start)
SECTIONS {
    .vectors 0 : { KEEP(*(.vectors)) }
    .text : { *(.text*) *(.rodata*) }
    .refused : { *(.data*) *(.bss*) }
    ASSERT(SIZEOF(.refused) == 0, "data that are no constants")
    /DISCARD/ : { *(.ARM.exidx*) }
}
"""


def emulated(header, rows, kind, folder):
    """Return the bits of the outputs that the program writes for each row."""
    qemu = compiler("qemu-system-arm")
    (folder / "net.h").write_text(header)
    (folder / "layout.ld").write_text(LAYOUT)
    values = ",\n".join("{" + ", ".join(map(str, row.tolist())) + "}" for row in rows)
    array = f"static const {kind} rows[{len(rows)}][{rows.shape[1]}] = {{\n{values}\n}};\n"
    if kind == "float":
        array = re.sub(r"[-.\de]+(?=[,}])", r"\g<0>f", array)
    (folder / "rows.h").write_text(f"#define ROWS {len(rows)}\n{array}")
    is_float = kind == "float"
    source = PROGRAM.replace("RESULT", "float" if is_float else "int32_t")
    source = source.replace(
        "IN_BITS = y[j]", "bits.f = y[j]" if is_float else "bits.u = (uint32_t)y[j]"
    )
    (folder / "main.c").write_text(source)
    chip = ("-mcpu=cortex-m3", "-mthumb", "-O2", "-nostdlib", "-nostartfiles")
    link = ("-T", folder / "layout.ld", folder / "main.c", "-lgcc", "-o", folder / "main.elf")
    run(compiler("arm-none-eabi-gcc"), *STRICT, *chip, *link)
    machine = ("-M", "mps2-an385", "-nographic", "-monitor", "none", "-serial", "null")
    debugger = ("-semihosting-config", "enable=on,target=native", "-kernel", folder / "main.elf")
    shown = run(qemu, *machine, *debugger, timeout=120, merges=True)
    bits = np.array([int(line, 16) for line in re.findall(r"^[0-9a-f]{8}$", shown, re.MULTILINE)])
    return bits.astype(np.uint32).reshape(len(rows), -1)


def make_pipeline():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 7)).astype(np.float32)
    layers = [dl.Linear(7, 12), dl.Tanh(), dl.LayerNorm(12), dl.Linear(12, 9), dl.GELU()]
    model = dl.Sequential(*layers, dl.Linear(9, 4), seed=0)
    return [dl.ZScoreNormalizer().fit(x), model], x


def test_the_bits_of_float32_are_those_of_this_machine(tmp_path):
    pipeline, x = make_pipeline()
    header = dl.to_c(pipeline, "net", output="softmax")
    bits = emulated(header, x, "float", tmp_path)
    y = Library(header, tmp_path, "-DNET_PLAIN").rows("logits", x, 4)
    assert np.array_equal(bits.view(np.float32), y)


def test_the_integers_of_int8_are_those_of_this_machine(tmp_path):
    pipeline, x = make_pipeline()
    header = dl.to_c(pipeline, "net", "int8", x, output="softmax")
    library = Library(header, tmp_path)
    q = library.rows("quantize", x, 7, y_dtype=np.int8)
    y = library.rows("logits", q, 4, np.int8, np.int32)
    assert np.array_equal(emulated(header, q, "int8_t", tmp_path).view(np.int32), y)
    normalizer, model = pipeline
    expected = model(normalizer.transform(x)).argmax(1)
    assert (y.argmax(1) == expected).mean() > 0.9


@pytest.mark.parametrize("data", ["static int counter; int used(void) { return ++counter; }"])
def test_data_that_are_no_constants_would_be_seen(data, tmp_path):
    pipeline, x = make_pipeline()
    header = dl.to_c(pipeline, "net").replace("#include <stdint.h>", f"#include <stdint.h>\n{data}")
    with pytest.raises(AssertionError, match="data that are no constants"):
        emulated(header, x, "float", tmp_path)
