// The Python module growprune.native._kernels. Python checks shapes and types before it calls
// (src/growprune/native); here they are only taken apart.

#include "paths.h"
#include "prepare.h"
#include "recurrent.h"
#include "training.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace nb = nanobind;
using namespace nb::literals;
using namespace growprune;

namespace {

template <class Element, int dimensions>
using Array = nb::ndarray<Element, nb::ndim<dimensions>, nb::c_contig, nb::device::cpu>;
template <class Element> using AnyArray = nb::ndarray<Element, nb::c_contig, nb::device::cpu>;
using Floats = Array<const float, 1>;
using Integers = Array<const int32_t, 1>;

// A path and its table, as Python sees it.
struct Path {
    const Kernels *kernels;
};

const float *data_or_null(const std::optional<Floats> &array) {
    return array ? array->data() : nullptr;
}

AlignedFloats copy(const Floats &array) {
    return {array.data(), array.data() + array.shape(0)};
}

// Calls function with the values as float or int8_t.
template <class Function> Prepared with_type(const nb::ndarray<nb::ro> &values, Function function) {
    if (values.dtype() == nb::dtype<float>())
        return function(static_cast<const float *>(values.data()));
    return function(static_cast<const int8_t *>(values.data()));
}

Prepared dense(const Path &, const nb::ndarray<nb::ro> &values, std::optional<Floats> scales) {
    return with_type(values, [&](const auto *data) {
        return prepare_dense(static_cast<int>(values.shape(0)), static_cast<int>(values.shape(1)),
                             data, data_or_null(scales));
    });
}

Prepared csr(const Path &, Integers starts, Integers columns, const nb::ndarray<nb::ro> &values,
             std::pair<int, int> shape, std::optional<Floats> scales) {
    return with_type(values, [&](const auto *data) {
        return prepare_csr(shape.first, shape.second, starts.data(), columns.data(), data,
                           data_or_null(scales));
    });
}

Prepared blocks(const Path &path, Integers starts, Integers panels, const nb::ndarray<nb::ro> &values,
                std::pair<int, int> shape, std::optional<Floats> scales) {
    return with_type(values, [&](const auto *data) {
        return prepare_blocks(shape.first, shape.second, starts.data(), panels.data(), data,
                              data_or_null(scales), path.kernels->bundle);
    });
}

void product(const Path &path, const Prepared &W, Array<const float, 2> x, Array<float, 2> y) {
    const int n = static_cast<int>(x.shape(0));
    nb::gil_scoped_release release;
    static thread_local std::vector<const float *> rows;
    static thread_local AlignedFloats scratch;
    rows.resize(n);
    scratch.resize(std::max(scratch.size(), scratch_floats(W.matrix)));
    for (int i = 0; i < n; ++i) rows[i] = x.data() + static_cast<int64_t>(i) * W.matrix.columns;
    path.kernels->product(W.matrix, rows.data(), n, nullptr, 0, nullptr, y.data(), W.matrix.rows,
                          scratch.data(), false);
}

using StageArguments = std::vector<std::vector<std::pair<Prepared, Floats>>>;

std::unique_ptr<Recurrent> make_recurrent(const Path &path, const std::string &kind,
                                          const Prepared &ih, const Prepared &hh, Floats bias,
                                          std::optional<Floats> hidden_bias,
                                          const StageArguments &gates, float slope) {
    std::vector<std::vector<Stage>> stages;
    for (const auto &gate : gates) {
        stages.emplace_back();
        for (const auto &[weight, stage_bias] : gate)
            stages.back().push_back({weight, copy(stage_bias)});
    }
    AlignedFloats addend(hh.matrix.rows); // of all gates' hidden sums: 0 but for the gate n
    if (hidden_bias)
        std::copy_n(hidden_bias->data(), hh.matrix.columns, addend.end() - hh.matrix.columns);
    return std::make_unique<Recurrent>(*path.kernels, kind == "lstm" ? Kind::lstm : Kind::gru, ih,
                                       hh, copy(bias), std::move(addend), std::move(stages), slope);
}

void run(Recurrent &layer, Array<const float, 3> x, Array<const int64_t, 1> lengths,
         Array<float, 2> h, std::optional<Array<float, 2>> c, Array<float, 3> outputs,
         bool reverse) {
    nb::gil_scoped_release release;
    layer.run(x.data(), lengths.data(), static_cast<int>(x.shape(0)), static_cast<int>(x.shape(1)),
              h.data(), c ? c->data() : nullptr, outputs.data(), reverse);
}

// Rows of float32 lent by Python's buffer protocol, which takes a third of the time of nb::ndarray.
class Buffer {
  public:
    explicit Buffer(nb::handle array, int access = PyBUF_SIMPLE) {
        const int wanted = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | access;
        is_lent_ = !array.is_none() && PyObject_GetBuffer(array.ptr(), &view_, wanted) == 0;
        if (!is_lent_) PyErr_Clear();
    }
    ~Buffer() {
        if (is_lent_) PyBuffer_Release(&view_);
    }
    Buffer(const Buffer &) = delete;
    Buffer &operator=(const Buffer &) = delete;

    bool holds(Py_ssize_t rows, Py_ssize_t columns) const {
        return is_lent_ && std::strcmp(view_.format, "f") == 0 && view_.ndim == 2 &&
               view_.shape[0] == rows && view_.shape[1] == columns;
    }
    int rows() const { return is_lent_ && view_.ndim ? static_cast<int>(view_.shape[0]) : 0; }
    float *data() const { return is_lent_ ? static_cast<float *>(view_.buf) : nullptr; }

  private:
    Py_buffer view_;
    bool is_lent_;
};

// Checks by itself what Python would take longer to check than a small layer takes to step. A GRU's
// c and new_c are None.
void step(Recurrent &layer, nb::handle x, nb::handle h, nb::handle c, nb::handle new_h,
          nb::handle new_c) {
    const Buffer from_x(x), from_h(h), from_c(c);
    const Buffer to_h(new_h, PyBUF_WRITABLE), to_c(new_c, PyBUF_WRITABLE);
    const int batch = from_x.rows();
    const auto is_state = [&](const Buffer &state) { return state.holds(batch, layer.hidden()); };
    const bool has_cell = layer.kind() == Kind::lstm;
    const bool cells_fit = has_cell ? is_state(from_c) && is_state(to_c) : c.is_none();
    if (!from_x.holds(batch, layer.input()) || !is_state(from_h) || !is_state(to_h) || !cells_fit)
        throw nb::value_error("not contiguous rows of float32, or shapes that do not fit");
    layer.step(from_x.data(), batch, from_h.data(), from_c.data(), to_h.data(), to_c.data());
}

int64_t rows_of(const AnyArray<const float> &x) {
    return static_cast<int64_t>(x.size() / x.shape(x.ndim() - 1));
}

int width_of(const AnyArray<const float> &x) { return static_cast<int>(x.shape(x.ndim() - 1)); }

// Training: records are (units, lanes), nested lists hold one for each stage of each gate.

using Rows = Array<const float, 2>;
using Lanes2 = Array<float, 2>;
using Nested = std::vector<std::vector<std::optional<Lanes2>>>;

// Memory of (units, lanes), for Python to keep as long as it needs it.
nb::ndarray<nb::numpy, float> lanes_of_memory(size_t units, size_t lanes) {
    auto memory = std::make_unique<Memory>(std::max<size_t>(1, units * lanes));
    const nb::capsule owner(memory.get(), [](void *m) noexcept { delete static_cast<Memory *>(m); });
    return nb::ndarray<nb::numpy, float>(memory.release()->data(), {units, lanes}, owner);
}

Record record_of(const Lanes2 &array) {
    return {array.data(), static_cast<int>(array.shape(0)), static_cast<int64_t>(array.shape(1))};
}

Record record_of(const std::optional<Lanes2> &array) {
    return array ? record_of(*array) : Record{};
}

template <class Arrays> std::vector<Record> records_of(const Arrays &arrays) {
    std::vector<Record> found;
    for (const auto &array : arrays) found.push_back(record_of(array));
    return found;
}

PerStage per_stage(const Nested &arrays) {
    PerStage found;
    for (const auto &gate : arrays) found.push_back(records_of(gate));
    return found;
}

// A matrix to train, kept alive: its weights one row after the other, or the active ones of them.
struct Trained {
    Floats weights;
    int rows, columns;
    const Connections *connections;

    Weights view() const { return {weights.data(), rows, columns, connections}; }
};

// What the forward pass left for the backward pass.
struct BoundTape {
    Lanes2 x;
    Nested scales;
    std::optional<Lanes2> h_before, c_before;
    std::vector<Lanes2> gates;
    Nested hidden;

    Tape view() const {
        const Tape tape = {record_of(x),        per_stage(scales), record_of(h_before),
                           record_of(c_before), records_of(gates), per_stage(hidden)};
        std::vector<Record> written = tape.gates;
        for (const auto &gate : tape.hidden) written.insert(written.end(), gate.begin(), gate.end());
        for (const Record &one : {tape.h_before, tape.c_before}) written.push_back(one);
        for (const Record &one : written)
            if (tape.h_before && (reinterpret_cast<uintptr_t>(one.data) % 64 || one.lanes % LANES))
                throw nb::value_error("a tape's lanes must lie on cache lines");
        return tape;
    }
};

struct BoundLayer {
    BoundLayer(const Path &path, Trained ih, Trained hh, std::vector<std::vector<Trained>> later,
               float slope, bool rounded)
        : path(path), ih(std::move(ih)), hh(std::move(hh)), later(std::move(later)),
          layer(*path.kernels, dense(rounded), this->ih.view(), this->hh.view(),
                views(this->later), slope) {}

    const DenseLanes &dense(bool rounded) const {
        if (!rounded) return path.kernels->lanes.dense;
        if (const DenseLanes *found = rounded_products(*path.kernels)) return *found;
        throw nb::value_error("no products of bfloat16 on this path and processor");
    }

    static std::vector<std::vector<Weights>> views(const std::vector<std::vector<Trained>> &all) {
        std::vector<std::vector<Weights>> found;
        for (const auto &gate : all) {
            found.emplace_back();
            for (const Trained &matrix : gate) found.back().push_back(matrix.view());
        }
        return found;
    }

    Path path;
    Trained ih, hh;
    std::vector<std::vector<Trained>> later;
    TrainingLayer layer;
};

// A pass with the arrays that it reads and writes, kept alive.
struct BoundPass {
    ReadyPass pass;
    std::shared_ptr<void> arrays;
};

template <class... Arrays> std::shared_ptr<void> kept(const Arrays &...arrays) {
    return std::make_shared<std::tuple<Arrays...>>(arrays...);
}

BoundPass train_forward(const BoundLayer &bound, const Batch &batch, const Rows &x, const Rows &h,
                        const Rows &c, const std::optional<Floats> &bias,
                        const std::vector<std::vector<std::optional<Floats>>> &later_biases,
                        const BoundTape &tape, const Lanes2 &outputs, const Lanes2 &last_h,
                        const Lanes2 &last_c) {
    Biases biases;
    for (const auto &gate : later_biases) {
        biases.emplace_back();
        for (const auto &stage : gate) biases.back().push_back(data_or_null(stage));
    }
    return {bound.layer.forward(batch, x.data(), h.data(), c.data(), data_or_null(bias), biases,
                                tape.view(), outputs.data(), last_h.data(), last_c.data()),
            kept(x, h, c, bias, later_biases, tape, outputs, last_h, last_c)};
}

// Active connections, delta, value and the gradient as a vector and as a matrix; delta and gradient.
using WeightToLearn =
    std::tuple<const Connections *, Lanes2, Lanes2, Array<float, 1>, Array<float, 2>>;
// Whether it is rounded, delta, value and gradient.
using DenseToLearn = std::tuple<bool, Lanes2, Lanes2, Lanes2>;
using BiasToLearn = std::pair<Lanes2, Array<float, 1>>;

BoundPass train_backward(const BoundLayer &bound, const Batch &batch, const Rows &doutputs,
                         const Rows &dlast_h, const Rows &dlast_c, const BoundTape &tape,
                         const Lanes2 &first, const Nested &stages,
                         const std::vector<Lanes2> &gates,
                         const std::vector<WeightToLearn> &weights,
                         const std::vector<DenseToLearn> &dense_weights,
                         const std::vector<BiasToLearn> &biases, const std::optional<Lanes2> &dx,
                         const Lanes2 &dh, const Lanes2 &dc) {
    const Deltas deltas = {record_of(first), per_stage(stages), records_of(gates)};
    Gradients gradients;
    for (const auto &[connections, delta, value, vector, matrix] : weights)
        gradients.weights.push_back({connections, record_of(delta), record_of(value), vector.data(),
                                     matrix.data()});
    for (const auto &[rounded, delta, value, gradient] : dense_weights)
        gradients.dense_weights.push_back(
            {&bound.dense(rounded), record_of(delta), record_of(value), gradient.data()});
    for (const auto &[delta, gradient] : biases)
        gradients.biases.push_back({record_of(delta), gradient.data()});
    return {bound.layer.backward(batch, doutputs.data(), dlast_h.data(), dlast_c.data(),
                                 tape.view(), deltas, gradients, dx ? dx->data() : nullptr,
                                 dh.data(), dc.data()),
            kept(doutputs, dlast_h, dlast_c, tape, first, stages, gates, weights, dense_weights,
                 biases, dx, dh, dc)};
}

void make_all(const std::vector<const BoundPass *> &bound, int threads) {
    std::vector<ReadyPass> passes;
    for (const BoundPass *one : bound) passes.push_back(one->pass);
    nb::gil_scoped_release release;
    make(passes, threads);
}

// Matrices, (rows, columns), and vectors of their active connections; one of each pair is written.
using Active = std::vector<std::tuple<const Connections *, Array<float, 2>, Array<float, 1>>>;

void gather_all(const Active &active, int threads) {
    nb::gil_scoped_release release;
    together(threads, [&](const Member &member) {
        for (const auto &[connections, matrix, vector] : active)
            gather(*connections, matrix.data(), vector.data(), member);
    });
}

void scatter_all(const Active &active, int threads) {
    nb::gil_scoped_release release;
    together(threads, [&](const Member &member) {
        for (const auto &[connections, matrix, vector] : active)
            scatter(*connections, vector.data(), matrix.data(), member);
    });
}

void bind_training(nb::module_ &module) {
    nb::class_<Connections>(module, "Connections")
        .def("__init__",
             [](Connections *self, const Array<const uint8_t, 2> &mask) {
                 new (self) Connections(mask.data(), static_cast<int>(mask.shape(0)),
                                        static_cast<int>(mask.shape(1)));
             })
        .def_prop_ro("count", [](const Connections &c) { return c.by(false).indices.size(); })
        .def_prop_ro("in_blocks", [](const Connections &c) { return c.blocks() != nullptr; });
    nb::class_<Batch>(module, "Batch")
        .def("__init__",
             [](Batch *self, const Array<const int64_t, 1> &batch_sizes, bool reverse,
                int most_parts) {
                 new (self) Batch(batch_sizes.data(), static_cast<int>(batch_sizes.shape(0)),
                                  reverse, most_parts);
             },
             "batch_sizes"_a, "reverse"_a, "most_parts"_a)
        .def_prop_ro("parts", [](const Batch &batch) { return batch.parts().size(); })
        .def_prop_ro("lanes", &Batch::all_lanes)
        .def_prop_ro("chunk_lanes", &Batch::chunk_lanes)
        .def("dropout",
             [](const Batch &batch, const Path &path, uint64_t seed, float keep, const Lanes2 &to,
                int threads) {
                 nb::gil_scoped_release release;
                 together(threads, [&](const Member &member) {
                     for (const Steps &steps : batch.parts())
                         draw_dropout(*path.kernels, steps, seed, keep, record_of(to), member);
                 });
             },
             "path"_a, "seed"_a, "keep"_a, "to"_a.noconvert(), "threads"_a);
    nb::class_<Trained>(module, "Trained")
        .def("__init__",
             [](Trained *self, Floats weights, std::pair<int, int> shape,
                const Connections *connections) {
                 new (self) Trained{std::move(weights), shape.first, shape.second, connections};
             },
             "weights"_a.noconvert(), "shape"_a, "connections"_a.none(), nb::keep_alive<1, 4>());
    nb::class_<BoundTape>(module, "Tape")
        .def("__init__",
             [](BoundTape *self, Lanes2 x, Nested scales, std::optional<Lanes2> h_before,
                std::optional<Lanes2> c_before, std::vector<Lanes2> gates, Nested hidden) {
                 new (self) BoundTape{x, scales, h_before, c_before, gates, hidden};
             },
             "x"_a.noconvert(), "scales"_a.noconvert(), "h_before"_a.noconvert().none(),
             "c_before"_a.noconvert().none(), "gates"_a.noconvert(), "hidden"_a.noconvert());
    nb::class_<BoundPass>(module, "TrainingPass");
    nb::class_<BoundLayer>(module, "TrainingLayer")
        .def(nb::init<const Path &, Trained, Trained, std::vector<std::vector<Trained>>, float,
                      bool>())
        .def("forward", train_forward, "batch"_a, "x"_a, "h"_a, "c"_a, "bias"_a.none(),
             "later_biases"_a, "tape"_a, "outputs"_a.noconvert(), "last_h"_a.noconvert(),
             "last_c"_a.noconvert(), nb::keep_alive<0, 1>(), nb::keep_alive<0, 2>())
        .def("backward", train_backward, "batch"_a, "doutputs"_a, "dlast_h"_a, "dlast_c"_a,
             "tape"_a, "first"_a.noconvert(), "stages"_a.noconvert(), "gates"_a.noconvert(),
             "weights"_a.noconvert(), "dense_weights"_a.noconvert(), "biases"_a.noconvert(),
             "dx"_a.noconvert().none(), "dh"_a.noconvert(), "dc"_a.noconvert(),
             nb::keep_alive<0, 1>(), nb::keep_alive<0, 2>());
    module.def("make", make_all, "passes"_a, "threads"_a);
    module.def("gather", gather_all, "active"_a.noconvert(), "threads"_a);
    module.def("scatter", scatter_all, "active"_a.noconvert(), "threads"_a);
    module.def("lanes_of_memory", lanes_of_memory, "units"_a, "lanes"_a);
}

void bind_path(nb::module_ &module) {
    nb::class_<Path>(module, "Path")
        .def_prop_ro("rounds",
                     [](const Path &path) { return rounded_products(*path.kernels) != nullptr; })
        .def("dense", dense, "values"_a, "scales"_a.none())
        .def("csr", csr, "starts"_a, "columns"_a, "values"_a, "shape"_a, "scales"_a.none())
        .def("blocks", blocks, "starts"_a, "panels"_a, "values"_a, "shape"_a, "scales"_a.none())
        .def("product", product, "matrix"_a, "x"_a, "y"_a.noconvert())
        .def("Recurrent", make_recurrent, "kind"_a, "ih"_a, "hh"_a, "bias"_a,
             "hidden_bias"_a.none(), "stages"_a, "slope"_a)
        .def("sigmoid",
             [](const Path &path, AnyArray<const float> x, AnyArray<float> y) {
                 path.kernels->sigmoid(x.data(), y.data(), static_cast<int64_t>(x.size()));
             })
        .def("tanh",
             [](const Path &path, AnyArray<const float> x, AnyArray<float> y) {
                 path.kernels->tanh(x.data(), y.data(), static_cast<int64_t>(x.size()));
             })
        .def("leaky_relu",
             [](const Path &path, AnyArray<const float> x, float slope, AnyArray<float> y) {
                 path.kernels->leaky_relu(x.data(), slope, y.data(),
                                          static_cast<int64_t>(x.size()));
             })
        .def("layer_norm",
             [](const Path &path, AnyArray<const float> x, Floats weight, Floats bias, float eps,
                AnyArray<float> y) {
                 path.kernels->layer_norm(x.data(), weight.data(), bias.data(), eps, y.data(),
                                          rows_of(x), width_of(x));
             })
        .def("log_softmax", [](const Path &path, AnyArray<const float> x, AnyArray<float> y) {
            path.kernels->log_softmax(x.data(), y.data(), rows_of(x), width_of(x));
        });
}

} // namespace

NB_MODULE(_kernels, module) {
    // torch keeps graphs, and with them passes, until the interpreter is gone.
    nb::set_leak_warnings(false);
    nb::class_<Prepared>(module, "Prepared");
    nb::class_<Recurrent>(module, "Recurrent")
        .def("run", run, "x"_a, "lengths"_a, "h"_a.noconvert(), "c"_a.noconvert().none(),
             "outputs"_a.noconvert(), "reverse"_a)
        .def("step", step, "x"_a, "h"_a, "c"_a.none(), "new_h"_a, "new_c"_a.none());
    bind_path(module);
    bind_training(module);
    module.def("available", [] {
        std::vector<std::string> names;
        for (const Kernels *kernels : available_kernels()) names.emplace_back(kernels->name);
        return names;
    });
    module.def("load", [](const std::string &name) {
        for (const Kernels *kernels : available_kernels())
            if (name == kernels->name) return Path{kernels};
        throw nb::value_error("no such path");
    });
}
