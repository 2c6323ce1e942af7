// Scheme dynamic: float32 tensors, integers between load and epilogue (docs/arithmetic-dynamic.md).
//
// Every float operation stands by itself and in the page's order; compile with -ffp-contract=off.
#ifndef HLSGEN_DYNAMIC_H
#define HLSGEN_DYNAMIC_H

#include "dynamic_tables.h"
#include "program.h"
#ifdef __SYNTHESIS__
#include "hls_math.h"
#else
#include <cmath>
#endif

// How an op's input becomes the integers that the array multiplies.
enum reading_kind {
    READ_IMAGE = 0,     // 8-bit integers already
    READ_LEVELS = 1,    // 8 bits by the input's own extent
    READ_INTEGERS = 2,  // 16 bits, as two halves
};

const int LARGEST = 32512, LARGEST_OF_NORM = 524287;
const float SMALLEST_SCALE = 6.1e-5f;
const float LOG2_E = 94548.46f;  // 65536 / ln 2
const float FAR = 2097152.0f;

// What follows a sum's scale and bias.
enum activation_kind {
    ACTIVATE_NOT = 0,
    ACTIVATE_GELU = 1,
    ACTIVATE_RELU = 2,
};

// What brings sums back to floats, from load_input to the epilogue. zero: times a channel's sum of weights, added to its sums.
struct scaling_t {
    float scale;
    int zero;
};

inline float float_of(int bits) {
#pragma HLS INLINE
    union {
        int bits;
        float value;
    } both;
    both.bits = bits;
    return both.value;
}

inline int bits_of(float value) {
#pragma HLS INLINE
    union {
        int bits;
        float value;
    } both;
    both.value = value;
    return both.bits;
}

// An integer that orders floats as they are, and back: its own inverse.
inline int order_of(float x) {
#pragma HLS INLINE
    const int bits = bits_of(x);
    return bits ^ ((bits >> 31) & 0x7fffffff);
}

inline float at_order(int order) {
#pragma HLS INLINE
    return float_of(order ^ ((order >> 31) & 0x7fffffff));
}

// Four bytes of a beat, least significant first.
inline int word_at(const beat_t &b, int j) {
#pragma HLS INLINE
    return int(unsigned(b.v[4 * j] & 255) | unsigned(b.v[4 * j + 1] & 255) << 8 | unsigned(b.v[4 * j + 2] & 255) << 16 |
               unsigned(b.v[4 * j + 3] & 255) << 24);
}

inline void put_word(beat_t &b, int j, int word) {
#pragma HLS INLINE
    for (int k = 0; k < 4; k++) {
#pragma HLS UNROLL
        b.v[4 * j + k] = (signed char)(word >> (8 * k) & 255);
    }
}

// rint(x), |x| < 2^22: 1.5 * 2^23 + x has no bits below one.
inline int nearest(float x) {
#pragma HLS INLINE
    return bits_of(x + 12582912.0f) - 0x4b400000;
}

inline float larger(float a, float b) {
#pragma HLS INLINE
    return a > b ? a : b;
}

// x * 2^power, where neither it nor x is denormal; zero stays.
inline float times_power(float x, int power) {
#pragma HLS INLINE
    const int bits = bits_of(x);
    return (bits >> 23 & 255) == 0 ? 0.0f : float_of(bits + power * (1 << 23));
}

// PyTorch's ChooseQuantizationParams: scale and zero point for what lies between low and high.
inline scaling_t choose(float low, float high) {
#pragma HLS INLINE off
    double scale = (double(high) - double(low)) / 255.0;
    const float held = float(scale);
    if (held == 0.0f || 1.0f / held > 3.402823466e38f) scale = 0.1;
    if (scale < double(SMALLEST_SCALE)) {
        const float raised = SMALLEST_SCALE / float(scale), edge = SMALLEST_SCALE * 255.0f;
        if (low == 0.0f) {
            high = edge;
        } else if (high == 0.0f) {
            low = -edge;
        } else {
            low = low * raised;
            high = high * raised;
        }
        scale = double(SMALLEST_SCALE);
    }
    const double below = -double(low) / scale, above = double(high) / scale;
    const double error_low = below < 0.0 ? below : -below, error_high = 255.0 - (above < 0.0 ? -above : above);
    double zero = error_low < error_high ? below : 255.0 - above;
    zero = zero < 0.0 ? 0.0 : zero > 255.0 ? 255.0 : zero;
    const double magic = 6755399441055744.0;  // 1.5 * 2^52
    scaling_t found;
    found.scale = float(scale);
    found.zero = int((zero + magic) - magic);
    return found;
}

// A level less 128: x * inverse + zero, rounded once to float32. Product and sum are exact in double where it matters.
inline int level_of(float x, float inverse, int zero) {
#pragma HLS INLINE
    const float sum = float(double(x) * double(inverse) + double(zero));
    const int u = nearest(sum);
    return (u < 0 ? 0 : u > 255 ? 255 : u) - 128;
}

// Integers up to `top` for floats up to `largest`: what one stands for, and its inverse; both 0 for next to nothing.
struct step_t {
    float scale, inverse;
};

inline step_t steps_of(float largest, float top) {
#pragma HLS INLINE off
    step_t s;
    const bool nothing = largest < 7.8886090522101181e-31f;  // 2^-100
    s.scale = nothing ? 0.0f : largest / top;
    s.inverse = nothing ? 0.0f : top / largest;
    return s;
}

inline int low_half(int m) {
#pragma HLS INLINE
    return ((m + 128) & 255) - 128;
}

inline int high_half(int m) {
#pragma HLS INLINE
    return (m - low_half(m)) >> 8;
}

// LARGEST * 2^-(t / 65536), rounded; 0 <= t <= FAR.
inline int power_of(int t, int copy) {
#pragma HLS INLINE
    const int n = t >> 16;
    const line_t line = POWERS[copy][t >> 8 & 255];
    const unsigned v = unsigned(line.value * 256 - line.step * (t & 255));
    return n > 15 ? 0 : int((v + (1u << (15 + n))) >> (16 + n));
}

// x times the standard normal distribution at x.
inline float gelu(float x, int copy) {
#pragma HLS INLINE
    const float held = x < -8.0f ? -8.0f : x > 8.0f ? 8.0f : x;
    const int t = nearest(times_power(held, 16)) + (8 << 16);
    const line_t line = PHI[copy][t >> 10];
    const int v = line.value * 1024 + line.step * (t & 1023);
    return x * times_power(float(v), -30);
}

// A beat on its way to memory; what its floats are by order, the least and the most so far.
inline beat_t kept(const beat_t &b, int &least_order, int &most_order) {
#pragma HLS INLINE
    for (int j = 0; j < FLOATS; j++) {
#pragma HLS UNROLL
        const int order = order_of(float_of(word_at(b, j)));
        least_order = order < least_order ? order : least_order;
        most_order = order > most_order ? order : most_order;
    }
    return b;
}

#ifdef NORM
#if defined(__SYNTHESIS__) || defined(HLSGEN_STRICT)
typedef ap_int<33> norm_sum_t;      // of up to 4096 20-bit integers
typedef ap_int<52> norm_squares_t;  // of their squares
typedef ap_uint<13> norm_count_t;    // channels
typedef ap_int<67> norm_spread_t;
#else
typedef long long norm_sum_t, norm_squares_t, norm_count_t, norm_spread_t;
#endif

// A pixel's sums, from load_input to the epilogue.
struct moments_t {
    norm_sum_t sum;
    norm_squares_t squares;
};

// What normalizes a pixel: (x - mean) * inverse.
struct norm_t {
    float mean, inverse;
};

// unit: what one of the integers stands for, over the channels.
inline norm_t norm_constants(const moments_t &m, float unit, const op_t &op) {
#pragma HLS INLINE
    const norm_spread_t spread = norm_count_t(op.norm_channels) * m.squares - m.sum * m.sum;
    const float variance = float((long long)(spread)) * (unit * unit);
    const float held = variance + float_of(op.norm_epsilon);
    norm_t made;
    made.mean = float((long long)(m.sum)) * unit;
#ifdef __SYNTHESIS__
    made.inverse = 1.0f / hls::sqrtf(held);
#else
    made.inverse = 1.0f / std::sqrt(held);
#endif
    return made;
}
#endif

#endif
