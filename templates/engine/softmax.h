// Softmax around the MAC array (docs/arithmetic-attention.md): from sums to scores, and what divides by the weights' sum.
#ifndef HLSGEN_SOFTMAX_H
#define HLSGEN_SOFTMAX_H

#include "program.h"
#include "walk.h"

// A score of a sum: up to TP x TM of them a cycle, so that they only shift, by few distances.
inline data_t score_of(acc_t sum, const op_t &op) {
#pragma HLS INLINE
    const biased_t x = sum;
    const biased_t one = 1;
    const int shift = SCORE_SHIFT + least(op.score_shift, SCORE_SHIFTS);
    const biased_t half = shift > 0 ? biased_t(one << (shift - 1)) : biased_t(0);
    const biased_t odd = shift > 0 ? biased_t((x >> shift) & one) : one;  // ties to even
    const biased_t y = ((x + half - one + odd) >> shift) + biased_t(op.score_zero);
    return y < biased_t(-128) ? data_t(-128) : y > biased_t(127) ? data_t(127) : data_t(int(y));
}

// The largest of v[FROM] to v[FROM + COUNT - 1], as a tree.
template <int FROM, int COUNT>
struct largest_of {
    template <class T, int N>
    static T tree(const T (&v)[N]) {
#pragma HLS INLINE
        const T a = largest_of<FROM, COUNT / 2>::tree(v), b = largest_of<FROM + COUNT / 2, COUNT - COUNT / 2>::tree(v);
        return a > b ? a : b;
    }
};
template <int FROM>
struct largest_of<FROM, 1> {
    template <class T, int N>
    static T tree(const T (&v)[N]) {
#pragma HLS INLINE
        return v[FROM];
    }
};

// floor(log2(x)), x > 0.
inline int floor_log2(sum_t x) {
#pragma HLS INLINE
    int n = 0;
    for (int i = 1; i < SUM_BITS + SUM_FRACTION; i++) {
#pragma HLS UNROLL
        if ((x >> i) & 1) n = i;
    }
    return n;
}

// What divides a row of an attention by its sum, which has SUM_FRACTION bits of fraction: sum of the values * multiplier / 2^shift.
inline channel_t row_constants(sum_t sum, const op_t &op) {
#pragma HLS INLINE
    const int n = floor_log2(sum);
    channel_t c;
    c.bias = 0;
    c.multiplier = int((quotient_t(op.multiplier) << n) / quotient_t(sum));
    c.shift = op.scaling_shift + n - SUM_FRACTION;
    return c;
}

#ifdef MERGES
// x * factor / 2^FACTOR_BITS, ties to even.
inline sum_t scaled_sum(sum_t x, factor_t factor) {
#pragma HLS INLINE
    const scaled_sum_t y = scaled_sum_t(x) * scaled_sum_t(factor);
    const scaled_sum_t odd = (y >> FACTOR_BITS) & 1;
    return sum_t((y + scaled_sum_t((1 << (FACTOR_BITS - 1)) - 1) + odd) >> FACTOR_BITS);
}
#endif

#endif
