// LayerNorm over the channels of each pixel (docs/arithmetic-attention.md).
//
// The input is read twice. The first time the MAC process only fills its patches and adds up each pixel's elements and
// their squares; the epilogue makes a mean and an inverse deviation of these. The second time the elements pass.
#ifndef HLSGEN_NORM_H
#define HLSGEN_NORM_H

#include "program.h"

#if defined(__SYNTHESIS__) || defined(HLSGEN_STRICT)
typedef ap_int<22> norm_sum_t;       // of up to 4096 elements, or of an element times as many
typedef ap_uint<28> norm_squares_t;  // of up to 4096 squares
typedef ap_uint<48> norm_variance_t;
typedef ap_int<41> norm_product_t;
#else
typedef int norm_sum_t;
typedef unsigned norm_squares_t;
typedef unsigned long long norm_variance_t;
typedef long long norm_product_t;
#endif

// A pixel's sums, from the MAC process to the epilogue.
struct moments_t {
    norm_sum_t sum;
    norm_squares_t squares;
};

// What normalizes a pixel: (channels * x - sum) * inverse / 2^shift has NORM_FRACTION fraction bits.
struct norm_t {
    norm_sum_t sum;
    int inverse, shift;
};

const int NORM_FRACTION = 10;

// floor(sqrt(x)), x <= 2^32, a bit of the root at a time.
inline int root(norm_variance_t x) {
#pragma HLS INLINE
    norm_variance_t found = 0;
    for (int bit = 16; bit >= 0; bit--) {
#pragma HLS UNROLL
        const norm_variance_t next = found | norm_variance_t(1) << bit;
        if (next * next <= x) found = next;
    }
    return int(found);
}

inline norm_t norm_constants(const moments_t &m, const op_t &op) {
#pragma HLS INLINE
    const norm_product_t squared = norm_product_t(m.sum) * norm_product_t(m.sum);
    const norm_variance_t variance = norm_variance_t(norm_product_t(m.squares) * op.norm_channels - squared) + norm_variance_t(op.norm_epsilon);
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
        rest = i == 0 ? norm_variance_t(1) << t : rest << 1;
        const bool goes = rest >= variance;
        quotient = quotient << 1 | norm_variance_t(goes);
        if (goes) rest -= variance;
    }
    norm_t made;
    made.sum = m.sum;
    made.inverse = root(quotient);
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
    const norm_product_t centred = norm_product_t(x) * op.norm_channels - norm_product_t(row.sum);
    const norm_product_t n = norm_round(centred * row.inverse, row.shift);
    const int gain = int(unsigned(c.multiplier) << 8) >> 8;  // signed 24 bits
    const norm_product_t scaled = n * gain + norm_product_t(c.bias);
    const norm_product_t y = (c.shift > 0 ? norm_round(scaled, c.shift) : scaled) + norm_product_t(op.zero_point);
    return y < norm_product_t(-128) ? data_t(-128) : y > norm_product_t(127) ? data_t(127) : data_t(y);
}

#endif
