// LayerNorm over the channels of each pixel (docs/arithmetic-attention.md).
//
// The input is read twice. The first time the MAC process only fills its patches and adds up each pixel's elements and
// their squares; the epilogue makes a mean and an inverse deviation of these. The second time the elements pass.
#ifndef HLSGEN_NORM_H
#define HLSGEN_NORM_H

#include "program.h"

// Widths for up to 4096 channels, and their fast equivalents; products are as wide as their factors together.
#if defined(__SYNTHESIS__) || defined(HLSGEN_STRICT)
typedef ap_int<22> norm_sum_t;       // a sum of elements, or an element times the channels less that
typedef ap_uint<28> norm_squares_t;  // a sum of squares
typedef ap_uint<48> norm_variance_t;
typedef ap_uint<13> norm_count_t;    // channels
typedef ap_uint<17> norm_root_t;     // inverse deviation
typedef ap_int<20> norm_unit_t;      // a normalized element
typedef ap_int<18> norm_gain_t;
typedef ap_int<44> norm_product_t;
#else
typedef long long norm_sum_t, norm_squares_t, norm_count_t, norm_root_t, norm_unit_t, norm_gain_t, norm_product_t;
typedef unsigned long long norm_variance_t;
#endif

// A pixel's sums, from the MAC process to the epilogue.
struct moments_t {
    norm_sum_t sum;
    norm_squares_t squares;
};

// What normalizes a pixel: (channels * x - sum) * inverse / 2^shift has NORM_FRACTION fraction bits.
struct norm_t {
    norm_sum_t sum;
    norm_root_t inverse;
    int shift;
};

const int NORM_FRACTION = 10;

inline norm_t norm_constants(const moments_t &m, const op_t &op) {
#pragma HLS INLINE
    const norm_product_t squared = m.sum * m.sum, spread = m.squares * norm_count_t(op.norm_channels);
    const norm_variance_t variance = norm_variance_t(spread - squared) + norm_variance_t(op.norm_epsilon);
    int t = 0;  // 2 * floor(log2(variance) / 2)
    for (int i = 2; i < 48; i += 2) {
#pragma HLS UNROLL
        if (variance >> i) t = i;
    }
    // 2^(32 + t) / variance, a bit a time.
    norm_variance_t quotient = 0, rest = 0;
    for (int i = 0; i < 33; i++) {
#pragma HLS UNROLL
        // The dividend is a one and 32 + t zeros; its first t + 1 digits at once.
        rest = i == 0 ? norm_variance_t(norm_variance_t(1) << t) : norm_variance_t(rest << 1);
        const bool goes = rest >= variance;
        quotient = (quotient << 1) | norm_variance_t(goes);
        if (goes) rest -= variance;
    }
    // Its square root, a bit a time.
    norm_variance_t found = 0;
    for (int bit = 16; bit >= 0; bit--) {
#pragma HLS UNROLL
        const norm_variance_t trial = (found << (bit + 1)) | (norm_variance_t(1) << (2 * bit));
        const bool fits = quotient >= trial;
        if (fits) quotient -= trial;
        if (fits) found |= norm_variance_t(1) << bit;
    }
    norm_t made;
    made.sum = m.sum;
    made.inverse = norm_root_t(found);
    made.shift = 16 - NORM_FRACTION + t / 2;
    return made;
}

// x / 2^shift, ties to even, shift >= 1.
inline norm_product_t norm_round(norm_product_t x, int shift) {
#pragma HLS INLINE
    const norm_product_t one = 1;
    return (x + (one << (shift - 1)) - one + ((x >> shift) & one)) >> shift;
}

// A normalized element of a channel.
inline data_t normalize(data_t x, const norm_t &row, const channel_t &c, const op_t &op) {
#pragma HLS INLINE
    const norm_sum_t centred = norm_sum_t(x) * norm_count_t(op.norm_channels) - row.sum;
    const norm_unit_t n = norm_round(centred * row.inverse, row.shift);
    const norm_gain_t gain = int(unsigned(c.multiplier) << 8) >> 8;  // signed 24 bits hold it
    const norm_product_t scaled = n * gain + norm_product_t(c.bias);
    const norm_product_t y = (c.shift > 0 ? norm_round(scaled, c.shift) : scaled) + norm_product_t(op.zero_point);
    return y < norm_product_t(-128) ? data_t(-128) : y > norm_product_t(127) ? data_t(127) : data_t(int(y));
}

#endif
