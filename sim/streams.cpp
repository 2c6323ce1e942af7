// The second test bench: the engine's processes all at once, joined by streams of the depths in config.h.
//
//   streams [DATA] [--json FILE]
//
// tb.cpp runs one process after another, with streams that hold anything; hardware does not. Here a process that finds its
// stream full waits, so this run ends only where the depths suffice. It counts what goes through every stream, op by op,
// and holds the feature maps to the reference once more. Of ops that move the same beats through the same streams (TENSORS'
// like) it runs the first; the others' outputs are taken from the reference.
// Exit status: 0 equal, 1 a tensor differs, 2 a file is missing or has another size, 3 the streams deadlock.
#include "epilogue.h"
#include "files.h"
#include "load.h"
#include "mac.h"
#include "store.h"

// The DATAFLOW region of engine.cpp: the same processes on the same streams.
static bool run_op(int index, memory_t &memory, std::string &counts) {
    hls::stream<beat_t> input("input", IN_DEPTH), weights("weights", WEIGHT_DEPTH), channels("parameters", PARAMETER_DEPTH);
    hls::stream<beat_t> residual("residual", RESIDUAL_DEPTH), output("output", OUT_DEPTH);
    hls::stream<sums_t> sums("sums", SUMS_DEPTH);
#ifdef ATTENTION
    hls::stream<beat_t> operand("operand", WEIGHT_DEPTH);
    hls::stream<row_t> row_sums("row_sums", ATTENTION_PIXELS);
#endif
#ifdef NORM
    hls::stream<moments_t> moments("moments", TILE_PIXELS);
#endif
#ifdef DYNAMIC
    hls::stream<scaling_t> scalings("scalings", 2);
    hls::stream<beat_t> passed("passed", RESIDUAL_DEPTH);
#endif
    beat_t *maps = &memory.maps[0];
    const beat_t *parameters = &memory.parameters[0];

    bounded::region region;
    region.add("load_input", [&] { load_input(index, maps, LOADED_STREAMS input); });
    region.add("load_weights", [&] { load_weights(index, parameters, channels, weights); });
    region.add("load_residual", [&] { load_residual(index, maps, OPERAND_STREAM residual); });
    region.add("mac", [&] { mac(index, input, weights, OPERAND_STREAM FILLED_STREAMS sums); });
    region.add("epilogue", [&] { epilogue(index, SCALING_STREAM PASSED_STREAM channels, sums, ROW_SUMS_STREAM MOMENTS_STREAM residual, output); });
    region.add("store_output", [&] { store_output(index, output, maps); });
    std::string why;
    if (!region.run(why)) {
        std::printf("DEADLOCK op %d %s: %s\n", index, TENSORS[index].name, why.c_str());
        return false;
    }
    const bounded::channel *all[] = {&input, &weights, &channels, &sums, &residual, &output,
#ifdef ATTENTION
                                     &operand, &row_sums,
#endif
#ifdef NORM
                                     &moments,
#endif
#ifdef DYNAMIC
                                     &scalings, &passed,
#endif
    };
    for (const bounded::channel *c : all) {
        char text[160];
        std::snprintf(text, sizeof text, ", \"%s\": {\"tokens\": %lld, \"left\": %zu, \"depth\": %zu}", c->name.c_str(),
                      c->tokens, c->level, c->depth);
        counts += text;
    }
    return true;
}

int main(int argc, char **argv) {
    std::string data = "data", json;
    for (int i = 1; i < argc; i++) {
        const std::string word = argv[i];
        if (word == "--json" && i + 1 < argc) {
            json = argv[++i];
        } else {
            data = word;
        }
    }
    memory_t memory;
    if (!memory.read(data)) return 2;
    std::FILE *report = json.empty() ? 0 : std::fopen(json.c_str(), "w");
    if (!json.empty() && !report) {
        std::fprintf(stderr, "tb: %s cannot be written\n", json.c_str());
        return 2;
    }
    if (report) std::fprintf(report, "[\n");
    long long wrong = 0;
    std::vector<std::string> counts(OP_COUNT);
    for (int i = 0; i < OP_COUNT; i++) {
        const tensor_t &t = TENSORS[i];
        if (t.like == i && !run_op(i, memory, counts[i])) return 3;
        if (report) std::fprintf(report, "%s{\"op\": \"%s\"%s}", i ? ",\n" : "", t.name, counts[t.like].c_str());
        if (t.expected < 0) continue;
        const size_t plane = size_t(t.height) * t.width * TM;
        const element_t *got = elements(&memory.maps[t.address]), *want = memory.expected.of(t);
        if (!want) return 2;
        if (t.like != i) {
            std::memcpy(&memory.maps[t.address], want, plane * t.blocks * sizeof(element_t));
            continue;
        }
        for (int lane = 0; lane < t.blocks * TM; lane++) {
            if (LANES_OF[t.first_lane + lane] < 0) continue;
            for (size_t p = 0; p < plane / TM; p++) {
                const size_t k = lane / TM * plane + p * TM + lane % TM;
                wrong += got[k] != want[k];
            }
        }
    }
    if (report) {
        std::fprintf(report, "\n]\n");
        std::fclose(report);
    }
    std::printf("%s: %d ops through streams of bounded depth, %lld integers differ\n", wrong ? "MISMATCH" : "ENOUGH", OP_COUNT, wrong);
    return wrong ? 1 : 0;
}
