// The self-test in C++ alone: the golden input on every core of the card, every tensor held to what the INT8 model computes.
//
//   hlsgen_selftest [PACKAGE] [CARD]
//
// PACKAGE: the folder with hlsgen.xclbin, parameters.bin and golden/ (default: the folder above). Exit status: 0 equal, 1 a
// tensor differs, 2 anything else.
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>

#include "accelerator.h"
#include "config.h"
#include "tensors.h"

namespace {

const size_t MAP_BYTES = size_t(FMAP_BEATS) * BEAT, PARAMETER_BYTES = size_t(PARAMETER_MEMORY_BEATS) * BEAT;
const unsigned MILLISECONDS = 10000;

std::vector<char> read_file(const std::string &path, size_t size) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error(path + " cannot be opened; copy the whole package");
    std::vector<char> data((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    if (data.size() != size)
        throw std::runtime_error(path + " expected " + std::to_string(size) + " bytes, got " + std::to_string(data.size()) +
                                 "; copy the package again");
    return data;
}

// What an op makes: 8-bit integers, or the bits of float32.
#ifdef DYNAMIC
typedef int element_t;
#else
typedef char element_t;
#endif

// The number of elements that differ; prints the first.
long long compare(const tensor_t &t, const char *from, const char *held) {
    const element_t *got = reinterpret_cast<const element_t *>(from), *want = reinterpret_cast<const element_t *>(held);
    const size_t plane = size_t(t.height) * t.width * TM;
    long long wrong = 0;
    for (int lane = 0; lane < t.blocks * TM; lane++) {
        const int channel = LANES_OF[t.first_lane + lane];
        if (channel < 0) continue;
        for (int p = 0; p < t.height * t.width; p++) {
            const size_t k = lane / TM * plane + size_t(p) * TM + lane % TM;
            if (got[k] == want[k]) continue;
            if (!wrong++)
                std::printf("WRONG     the first tensor that differs is %s: channel %d, row %d, column %d: expected %d, got %d\n",
                            t.name, channel, p / t.width, p % t.width, want[k], got[k]);
        }
    }
    return wrong;
}

int run(const std::string &package, unsigned index) {
    const std::vector<char> weights = read_file(package + "/parameters.bin", PARAMETER_BYTES);
    const size_t image_bytes = size_t(INPUT_BEATS) * BEAT;
    const std::vector<char> image = read_file(package + "/golden/image.bin", image_bytes);
    const std::vector<char> expected = read_file(package + "/golden/expected.bin", size_t(EXPECTED_BEATS) * BEAT);

    hlsgen::Card card(index, package + "/hlsgen.xclbin", "hlsgen_engine", CORES);
    for (int core = 0; core < card.cores(); core++) {
        card.call_empty(core, MILLISECONDS);
        if (card.identity(core) != IDENTITY) {
            char text[96];
            std::snprintf(text, sizeof text, "core %d is build 0x%08x, this package is build 0x%08x", core, card.identity(core),
                          IDENTITY);
            throw hlsgen::Mismatch(text);
        }
    }
    for (int core = 0; core < card.cores(); core++) {
        xrt::bo parameters = card.allocate(core, hlsgen::PARAMETERS, PARAMETER_BYTES);
        std::memcpy(parameters.map<char *>(), weights.data(), PARAMETER_BYTES);
        parameters.sync(XCL_BO_SYNC_BO_TO_DEVICE);
        xrt::bo maps = card.allocate(core, hlsgen::FEATURE_MAPS, MAP_BYTES);
        char *host = maps.map<char *>();
        std::memcpy(host + size_t(IMAGE.address) * BEAT, image.data(), image_bytes);
#ifdef CONSTANTS
        for (int i = 0; i < CONSTANTS; i++) {
            const constant_t &c = CONSTANT_MAPS[i];
            std::memcpy(host + size_t(c.map) * BEAT, &weights[size_t(c.parameter) * BEAT], size_t(c.beats) * BEAT);
        }
#endif
        maps.sync(XCL_BO_SYNC_BO_TO_DEVICE);
        for (int op = 0; op < OP_COUNT; op++) {
            const tensor_t &t = TENSORS[op];
            const size_t begin = size_t(t.address) * BEAT, bytes = size_t(t.blocks) * t.height * t.width * TM * sizeof(element_t);
            card.call(core, maps, parameters, op, 1, MILLISECONDS);
            if (t.expected < 0) continue;
            maps.sync(XCL_BO_SYNC_BO_FROM_DEVICE, bytes, begin);
            if (compare(t, host + begin, &expected[size_t(t.expected) * BEAT])) return 1;
        }
    }
    std::printf("EXACT     all %d tensors on %d core(s) are what the INT8 model computes\n", OP_COUNT, card.cores());
    return 0;
}

}  // namespace

int main(int argc, char **argv) {
    try {
        return run(argc > 1 ? argv[1] : "..", argc > 2 ? unsigned(std::stoul(argv[2])) : 0);
    } catch (const std::exception &error) {
        std::fprintf(stderr, "hlsgen_selftest: %s\n", error.what());
        return 2;
    }
}
