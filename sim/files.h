// The data files of the test benches.
#ifndef HLSGEN_FILES_H
#define HLSGEN_FILES_H

#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "tensors.h"
#include "types.h"

inline bool read_file(const std::string &path, char *to, size_t size) {
    std::FILE *f = std::fopen(path.c_str(), "rb");
    if (!f) {
        std::fprintf(stderr, "tb: %s cannot be opened; run in the project's folder or name its data folder\n", path.c_str());
        return false;
    }
    const size_t got = std::fread(to, 1, size, f);
    const bool more = std::fgetc(f) != EOF;
    std::fclose(f);
    if (got == size && !more) return true;
    std::fprintf(stderr, "tb: %s expected %zu bytes, got %s%zu; build the project again\n", path.c_str(), size,
                 more ? "more than " : "", got);
    return false;
}

// What an op makes: 8-bit integers, or the bits of float32.
#ifdef DYNAMIC
typedef int element_t;
#else
typedef signed char element_t;
#endif

inline const element_t *elements(const beat_t *at) { return reinterpret_cast<const element_t *>(at); }

// DDR as the engine finds it, and the outputs that the INT8 reference says it must make.
struct memory_t {
    std::vector<beat_t> maps, expected, parameters;
    memory_t() : maps(FMAP_BEATS), expected(EXPECTED_BEATS), parameters(PARAMETER_MEMORY_BEATS) {}

    bool read(const std::string &data) {
        std::memset(&maps[0], 0, maps.size() * sizeof(beat_t));
        if (!read_file(data + "/parameters.bin", (char *)&parameters[0], parameters.size() * sizeof(beat_t))) return false;
#ifdef CONSTANTS
        for (int i = 0; i < CONSTANTS; i++) {
            const constant_t &c = CONSTANT_MAPS[i];
            std::memcpy(&maps[c.map], &parameters[c.parameter], c.beats * sizeof(beat_t));
        }
#endif
        return read_file(data + "/image.bin", (char *)&maps[IMAGE.address], INPUT_BEATS * sizeof(beat_t)) &&
               read_file(data + "/expected.bin", (char *)&expected[0], expected.size() * sizeof(beat_t));
    }
};

#endif
