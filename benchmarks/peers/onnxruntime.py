"""ONNX Runtime, of an exported model: a ``Gemm`` for each layer."""

import os
from functools import partial

import onnx
import onnxruntime as library
from onnx import helper, numpy_helper

THREADS = int(os.environ["OMP_NUM_THREADS"])
OPSET, IR = 17, 8  # old enough for any runtime


def exported(case):
    nodes, weights = [], []
    last, name = len(case.widths) - 2, "x"
    for i, layer in enumerate(case.parameters()):
        names = [f"weight{i}", f"bias{i}"]
        weights += map(numpy_helper.from_array, layer, names)
        product = "y" if i == last else f"product{i}"
        nodes.append(helper.make_node("Gemm", [name, *names], [product], transB=1))
        name = f"relu{i}"
        if i < last:
            nodes.append(helper.make_node("Relu", [product], [name]))
    kind = helper.np_dtype_to_tensor_dtype(case.parameters()[0][0].dtype)
    ends = [
        helper.make_tensor_value_info(name, kind, ["rows", width])
        for name, width in (("x", case.widths[0]), ("y", case.widths[-1]))
    ]
    graph = helper.make_graph(nodes, "network", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def infer(case, x):
    options = library.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = THREADS, 1
    session = library.InferenceSession(exported(case), options, ["CPUExecutionProvider"])
    run = partial(session.run, None, {"x": x})
    return lambda: run()[0]
