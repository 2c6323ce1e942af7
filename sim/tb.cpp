// The test bench: runs the engine op by op and holds every output tensor to the reference, integer for integer.
//
//   tb [DATA] [--json FILE] [--dump FILE] [--ops N]
//
// DATA holds parameters.bin, image.bin and expected.bin (the ops' outputs as the INT8 PyTorch model computes them, in
// the engine's layout). Each output is compared as soon as it is stored: its memory may be used again. --json writes the verdict, --dump the feature maps that the engine computed; --ops runs only the
// first N ops (co-simulation of them all takes hours).
// Exit status: 0 equal, 1 a tensor differs, 2 a file is missing or has another size.
#include <chrono>
#include <cstdlib>

#include "engine.h"
#include "files.h"

int main(int argc, char **argv) {
    std::string data = "data", json, dump;
    int ops = OP_COUNT;
    for (int i = 1; i < argc; i++) {
        const std::string word = argv[i];
        if (word == "--json" && i + 1 < argc) {
            json = argv[++i];
        } else if (word == "--dump" && i + 1 < argc) {
            dump = argv[++i];
        } else if (word == "--ops" && i + 1 < argc) {
            ops = std::atoi(argv[++i]);
            if (ops < 1 || ops > OP_COUNT) {
                std::fprintf(stderr, "tb: --ops expects 1 to %d, got %s\n", OP_COUNT, argv[i]);
                return 2;
            }
        } else {
            data = word;
        }
    }
    memory_t memory;
    if (!memory.read(data)) return 2;
    std::vector<beat_t> &maps = memory.maps;

    // A call without ops touches no memory and still says which build this is.
    unsigned identity = 0;
    hlsgen_engine(&maps[0], &maps[0], &memory.parameters[0], &maps[0], 0, 0, identity);
    if (identity != IDENTITY) {
        std::fprintf(stderr, "tb: the engine says it is build 0x%08x, its sources 0x%08x\n", identity, IDENTITY);
        return 2;
    }

    std::FILE *report = json.empty() ? 0 : std::fopen(json.c_str(), "w");
    if (!json.empty() && !report) {
        std::fprintf(stderr, "tb: %s cannot be written\n", json.c_str());
        return 2;
    }
    if (report) std::fprintf(report, "{\"ops\": [\n");
    double total_seconds = 0;
    long long total_elements = 0, total_wrong = 0;
    int wrong_ops = 0;
    for (int i = 0; i < ops; i++) {
        const std::chrono::steady_clock::time_point begin = std::chrono::steady_clock::now();
        hlsgen_engine(&maps[0], &maps[0], &memory.parameters[0], &maps[0], i, 1, identity);
        const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
        total_seconds += seconds;

        const tensor_t &t = TENSORS[i];
        const element_t *got = elements(&maps[t.address]);
        const element_t *want = t.expected < 0 ? got : memory.expected.of(t);
        if (!want) return 2;
        const size_t plane = size_t(t.height) * t.width * TM;
        long long elements = 0, wrong = 0;
        int at[3] = {0, 0, 0}, saw = 0, meant = 0;
        for (int lane = 0; lane < (t.expected < 0 ? 0 : t.blocks * TM); lane++) {
            const int channel = LANES_OF[t.first_lane + lane];
            if (channel < 0) continue;
            const size_t base = lane / TM * plane + lane % TM;
            for (int p = 0; p < t.height * t.width; p++) {
                elements++;
                const size_t k = base + size_t(p) * TM;
                if (got[k] == want[k]) continue;
                // The first in the order channel, row, column.
                if (!wrong || channel < at[0]) {
                    at[0] = channel;
                    at[1] = p / t.width;
                    at[2] = p % t.width;
                    saw = got[k];
                    meant = want[k];
                }
                wrong++;
            }
        }
        total_elements += elements;
        total_wrong += wrong;
        if (wrong && !wrong_ops++)
            std::printf("op %d %s differs first: channel %d, row %d, column %d: expected %d, got %d; %lld of %lld differ\n", i,
                        t.name, at[0], at[1], at[2], meant, saw, wrong, elements);
        if (report)
            std::fprintf(report,
                         "%s{\"op\": \"%s\", \"elements\": %lld, \"mismatches\": %lld, \"index\": [%d, %d, %d], "
                         "\"expected\": %d, \"got\": %d, \"seconds\": %.6f}",
                         i ? ",\n" : "", t.name, elements, wrong, at[0], at[1], at[2], meant, saw, seconds);
    }
    if (report) {
        std::fprintf(report, "\n], \"elements\": %lld, \"mismatches\": %lld, \"seconds\": %.6f}\n", total_elements, total_wrong,
                     total_seconds);
        std::fclose(report);
    }
    if (!dump.empty()) {
        std::FILE *f = std::fopen(dump.c_str(), "wb");
        if (!f || std::fwrite(&maps[0], sizeof(beat_t), maps.size(), f) != maps.size()) {
            std::fprintf(stderr, "tb: %s cannot be written\n", dump.c_str());
            return 2;
        }
        std::fclose(f);
    }
    std::printf("%s: %d ops, %lld integers compared, %lld differ in %d ops, %.2f s\n", total_wrong ? "MISMATCH" : "EXACT",
                ops, total_elements, total_wrong, wrong_ops, total_seconds);
    return total_wrong ? 1 : 0;
}
