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

// expected.bin: the outputs that the INT8 reference says the ops must make, one behind the other. One at a time is in memory.
class expected_t {
    std::FILE *file;
    std::vector<beat_t> held;
    expected_t(const expected_t &);
    expected_t &operator=(const expected_t &);

  public:
    expected_t() : file(0) {}
    ~expected_t() {
        if (file) std::fclose(file);
    }

    bool open(const std::string &path) {
        const long size = long(EXPECTED_BEATS) * long(sizeof(beat_t));
        file = std::fopen(path.c_str(), "rb");
        const long got = file && !std::fseek(file, 0, SEEK_END) ? std::ftell(file) : -1;
        if (got == size) return true;
        if (got < 0)
            std::fprintf(stderr, "tb: %s cannot be opened; run in the project's folder or name its data folder\n", path.c_str());
        else
            std::fprintf(stderr, "tb: %s expected %ld bytes, got %ld; build the project again\n", path.c_str(), size, got);
        return false;
    }

    // What the tensor, which is compared, must be; until the next one is asked for. 0: it could not be read.
    const element_t *of(const tensor_t &t) {
        held.resize(size_t(t.blocks) * t.height * t.width * TM * sizeof(element_t) / sizeof(beat_t));
        if (!std::fseek(file, long(t.expected) * long(sizeof(beat_t)), SEEK_SET) &&
            std::fread(&held[0], sizeof(beat_t), held.size(), file) == held.size())
            return elements(&held[0]);
        std::fprintf(stderr, "tb: expected.bin cannot be read at %s\n", t.name);
        return 0;
    }
};

// DDR as the engine finds it, and what it must make of it.
struct memory_t {
    std::vector<beat_t> maps, parameters;
    expected_t expected;
    memory_t() : maps(FMAP_BEATS), parameters(PARAMETER_MEMORY_BEATS) {}

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
               expected.open(data + "/expected.bin");
    }
};

#endif
