// The products of one cycle, TM x TN x TP of them, and their sums: docs/area.md has the arithmetic and what it costs.
//
// The first DSP_TN input channels share DSPs, two products each; the others multiply in LUTs. The plain C-simulation
// computes the same sums by plain loops.
#ifndef HLSGEN_DOT_H
#define HLSGEN_DOT_H

#include "types.h"

// Signed width of the DSP port that takes two operands side by side: 25 on a DSP48E1, 27 on a DSP48E2 or DSP58.
#ifndef DSP_PORT
#define DSP_PORT 25
#endif

// Two operands in one port, high * 2^LANE + low: the widest LANE at which -128 * 2^LANE - 128 still fits.
const int LANE = DSP_PORT - 9;

// A product of two INT8 is -16256 to 16384, so a sum of `terms` products takes 32640 * terms + 1 values. LANE bits of it
// can be read off the DSP's result; this many more bits tell all its values apart.
constexpr int residue_bits(int terms) {
    int bits = 0;
    while ((1LL << (LANE + bits)) < 32640LL * terms + 1) bits++;
    return bits;
}

// The words of pair_dot as plain integers.
struct native_words {
    typedef int operand, residue, lane, sum, row, product;
    typedef long long port, chain;
};

#if defined(__SYNTHESIS__) || defined(HLSGEN_STRICT)
// The same words as wide as the hardware has them.
template <int TERMS>
struct exact_words {
    typedef ap_int<8> operand;
    typedef ap_int<DSP_PORT> port;
    typedef ap_int<48> chain;  // a DSP's result and cascade
    typedef ap_uint<residue_bits(TERMS) + 1> residue;
    typedef ap_uint<LANE + residue_bits(TERMS)> lane;
    typedef ap_int<LANE + residue_bits(TERMS) + 1> sum;
    typedef ap_int<10> row;
    typedef ap_int<16> product;
};
#endif

template <class W>
inline typename W::port pack(typename W::operand high, typename W::operand low) {
#pragma HLS INLINE
    return typename W::port(high) * (1 << LANE) + low;
}

// high_sum = sum of high[n] * shared[n] and low_sum = sum of low[n] * shared[n], exactly, where port[n] = pack(high[n], low[n]).
//
// One multiply-add a term, all in one cascade: chain = high_sum * 2^LANE + low_sum. Its low LANE bits are low_sum's; above
// them stands high_sum + floor(low_sum / 2^LANE). high_sum modulo 2^BITS, from the operands' last BITS bits in a few LUTs,
// gives that floor modulo 2^BITS, and so all of low_sum.
template <int TERMS, class W>
inline void pair_dot(const typename W::port port[TERMS], const typename W::operand high[TERMS],
              const typename W::operand shared[TERMS], typename W::sum &high_sum, typename W::sum &low_sum) {
#pragma HLS INLINE
    static_assert(TERMS >= 1 && TERMS <= 1024, "pair_dot expects 1 to 1024 terms");
    const int BITS = residue_bits(TERMS);
    const int MODULUS = 1 << BITS, ONE = 1 << LANE;
    // Below LEAST_NEGATIVE a lane stands for itself, from there on for itself - MODULUS * ONE.
    const int HALF = MODULUS * ONE / 2;
    const int LEAST_NEGATIVE = HALF > 16384 * TERMS ? HALF : 16384 * TERMS + 1;

    typename W::chain chain = 0;
    typename W::residue residue = 0;  // high_sum modulo MODULUS
    for (int n = 0; n < TERMS; n++) {
#pragma HLS UNROLL
        chain += port[n] * shared[n];
        // Shifts and additions: a multiplication as small as this must not take a DSP.
        typename W::residue product = 0;
        for (int bit = 0; bit < BITS; bit++) {
#pragma HLS UNROLL
            if ((shared[n] >> bit) & 1) product = (product + (high[n] & (MODULUS - 1)) * (1 << bit)) & (MODULUS - 1);
        }
        residue = (residue + product) & (MODULUS - 1);
    }
    const typename W::residue above = ((chain >> LANE) - residue) & (MODULUS - 1);
    const typename W::lane lane = typename W::lane(above) * ONE + typename W::lane(chain & (ONE - 1));
    low_sum = lane >= LEAST_NEGATIVE ? typename W::sum(lane | -(MODULUS * ONE)) : typename W::sum(lane);
    high_sum = (chain >> LANE) - (low_sum >> LANE);
}

// Whether Booth digit j of b, -2 * b[2j+1] + b[2j] + b[2j-1], is negative.
template <class T>
inline bool booth_negative(T b, int j) {
#pragma HLS INLINE
    const bool upper = b >> (2 * j + 1) & 1, middle = b >> (2 * j) & 1, lower = j > 0 && (b * 2 >> (2 * j) & 1);
    return upper && !(middle && lower);
}

// a * b in LUTs: four rows of b's radix-4 Booth digits, each one short carry chain whose LUTs also select the row.
template <class W>
inline typename W::product lut_product(typename W::operand a, typename W::operand b) {
#pragma HLS INLINE
    typename W::row rows = 0;
    // A negative row is a one's complement; the ones that those lack come first.
    for (int j = 0; j < 4; j++) {
#pragma HLS UNROLL
        if (booth_negative(b, j)) rows += 1 << (2 * j);
    }
    typename W::product low = 0;
    for (int j = 0; j < 4; j++) {
#pragma HLS UNROLL
        const bool upper = b >> (2 * j + 1) & 1, middle = b >> (2 * j) & 1, lower = j > 0 && (b * 2 >> (2 * j) & 1);
        typename W::row row = 0;
        if (middle != lower) row = a;
        if (upper != middle && middle == lower) row = a * 2;
        if (booth_negative(b, j)) row = ~row;
        rows += row;
        if (j < 3) {
            low += typename W::product(rows & 3) * (1 << (2 * j));
            rows >>= 2;
        }
    }
    return typename W::product(rows) * 64 + low;
}

// The sum of v[FROM] to v[FROM + COUNT - 1] as a tree, every level as wide as it must be.
template <int FROM, int COUNT>
struct sum_of {
    template <class T, int N>
    static auto tree(const T (&v)[N]) {
#pragma HLS INLINE
        return sum_of<FROM, COUNT / 2>::tree(v) + sum_of<FROM + COUNT / 2, COUNT - COUNT / 2>::tree(v);
    }
};
template <int FROM>
struct sum_of<FROM, 1> {
    template <class T, int N>
    static auto tree(const T (&v)[N]) {
#pragma HLS INLINE
        return v[FROM];
    }
};

#if defined(__SYNTHESIS__) || defined(HLSGEN_STRICT)
// sum[p][m] = sum over n of w[n][m] * x[p][n].
//
// One module for the whole array, so that operands delayed along the cascades are delayed once for all of them.
inline void dot(const weight_t w[TN][TM], const data_t x[TP][TN], acc_t sum[TP][TM]) {
#pragma HLS INLINE off
#pragma HLS PIPELINE II=1
// Cascades stay chains: every addition joins its multiplication in one DSP. BIND_OP would hinder that (UG1399).
#pragma HLS EXPRESSION_BALANCE off
    for (int p = 0; p < TP; p++) {
#pragma HLS UNROLL
        for (int m = 0; m < TM; m++) {
#pragma HLS UNROLL
#if DSP_TN < TN
            exact_words<1>::product products[TN - DSP_TN];
#pragma HLS ARRAY_PARTITION variable=products complete
            for (int n = DSP_TN; n < TN; n++) {
#pragma HLS UNROLL
                products[n - DSP_TN] = lut_product<exact_words<1> >(x[p][n], w[n][m]);
            }
            sum[p][m] = sum_of<0, TN - DSP_TN>::tree(products);
#else
            sum[p][m] = 0;
#endif
        }
    }
#if DSP_TN > 0
    // Pairs of pixels share a weight, for then there are few packed operands; where TP is odd, pairs of weights share
    // a pixel.
    const int PAIRS = TP % 2 == 0 ? TP / 2 : TM / 2, SHARED = TP % 2 == 0 ? TM : TP;
    typedef exact_words<DSP_TN> words;
    for (int j = 0; j < PAIRS; j++) {
#pragma HLS UNROLL
        words::operand high[DSP_TN];
        words::port port[DSP_TN];
#pragma HLS ARRAY_PARTITION variable=high complete
#pragma HLS ARRAY_PARTITION variable=port complete
        for (int n = 0; n < DSP_TN; n++) {
#pragma HLS UNROLL
            high[n] = TP % 2 == 0 ? x[2 * j + 1][n] : w[n][2 * j + 1];
            port[n] = pack<words>(high[n], TP % 2 == 0 ? x[2 * j][n] : w[n][2 * j]);
        }
        for (int s = 0; s < SHARED; s++) {
#pragma HLS UNROLL
            words::operand shared[DSP_TN];
#pragma HLS ARRAY_PARTITION variable=shared complete
            for (int n = 0; n < DSP_TN; n++) {
#pragma HLS UNROLL
                shared[n] = TP % 2 == 0 ? w[n][s] : x[s][n];
            }
            words::sum high_sum, low_sum;
            pair_dot<DSP_TN, words>(port, high, shared, high_sum, low_sum);
            if (TP % 2 == 0) {
                sum[2 * j][s] += low_sum;
                sum[2 * j + 1][s] += high_sum;
            } else {
                sum[s][2 * j] += low_sum;
                sum[s][2 * j + 1] += high_sum;
            }
        }
    }
#endif
}
#else
inline void dot(const weight_t w[TN][TM], const data_t x[TP][TN], acc_t sum[TP][TM]) {
    for (int p = 0; p < TP; p++) {
        acc_t total[TM];
        for (int m = 0; m < TM; m++) {
            total[m] = 0;
        }
        for (int n = 0; n < TN; n++) {
            const weight_t pixel = x[p][n];
            for (int m = 0; m < TM; m++) {
                total[m] += w[n][m] * pixel;
            }
        }
        for (int m = 0; m < TM; m++) {
            sum[p][m] = total[m];
        }
    }
}
#endif

#endif
