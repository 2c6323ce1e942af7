// Storage and arithmetic types of the engine.
//
// Two sets that hold the same values: fast C++ integers for C-simulation, exact-width ap_ types for synthesis and for
// the strict C-simulation (-DHLSGEN_STRICT) that proves the two equal. The build proves ACC_BITS from the weights.
#ifndef HLSGEN_TYPES_H
#define HLSGEN_TYPES_H

#include "config.h"
#include "hls_stream.h"

#if defined(__SYNTHESIS__) || defined(HLSGEN_STRICT)
#include "ap_int.h"
typedef ap_int<8> data_t;                  // a feature-map element
typedef ap_int<8> weight_t;                // a weight
typedef ap_int<ACC_BITS> acc_t;            // a convolution's sum
typedef ap_int<BIASED_BITS> biased_t;      // sum plus bias
typedef ap_int<SCALED_BITS> scaled_t;      // times the requantization multiplier
typedef ap_int<PRE_BITS + 1> pre_t;        // requantized, before the table; one bit more for the table's index
typedef ap_int<ADD_BITS> added_t;          // residual addition before its shift
#ifdef ATTENTION
typedef ap_uint<ROW_SUM_BITS> row_sum_t;   // sum of a row's weights
#endif
#ifdef SOFTMAX
typedef ap_uint<SUM_BITS + SUM_FRACTION> sum_t;            // the same, of all chunks, before division
typedef ap_uint<SUM_BITS + SUM_FRACTION + 17> quotient_t;  // multiplier scaled by the sum's power of two
#endif
#ifdef MERGES
typedef ap_int<MERGED_BITS> merged_t;      // sum of the values, weighted
typedef ap_uint<FACTOR_BITS + 1> factor_t;
typedef ap_uint<SUM_BITS + SUM_FRACTION + FACTOR_BITS + 1> scaled_sum_t;
#endif
#else
typedef signed char data_t;
typedef int weight_t;                      // widened once when loaded, so that products vectorise
#ifdef DYNAMIC
typedef SUM_FAST acc_t;
typedef SUM_FAST biased_t;
#else
typedef int acc_t;
typedef int biased_t;
#endif
typedef SCALED_FAST scaled_t;
typedef int pre_t;
typedef ADD_FAST added_t;
#ifdef ATTENTION
typedef int row_sum_t;
#endif
#ifdef SOFTMAX
typedef int sum_t;
typedef long long quotient_t;
#endif
#ifdef MERGES
typedef int merged_t;
typedef int factor_t;
typedef long long scaled_sum_t;
#endif
#endif

// One transfer of an AXI port. A plain byte array: a struct of bytes is BEAT * 8 bits wide on the bus.
struct beat_t {
    signed char v[BEAT];
};

// What the MAC array hands to the epilogue in one cycle: TP neighbouring pixels of one block of TM output channels.
struct sums_t {
    acc_t v[TP][TM];
};

// One pixel of one channel block, requantized.
struct block_t {
    signed char v[TM];
};

#ifdef SOFTMAX
// Scores are made of all of a group's sums in a cycle, and kept in a memory for each of its pixels; or SCORE_PARTS cycles long of a
// beat of a pixel's sums, and kept in one.
const bool NARROW = SCORE_PARTS > 1;
const int STRIPS = NARROW ? 1 : TP, STRIP_WIDTH = NARROW ? BEAT : TM;

// Weights are made for so many pixels of a group a cycle. What softmax hands to the epilogue for them and a chunk of keys.
const int MADE = TP > 1 && !NARROW ? 2 : 1;
const int GROUP_ROWS = (TP + MADE - 1) / MADE;
struct row_t {
    row_sum_t sum[MADE];   // of the weights
    data_t largest[MADE];  // score
};
#elif defined(ATTENTION)
typedef row_sum_t row_t;
#endif

// Streams that only some networks need, as the arguments of the processes that they join. What softmax and LayerNorm sum up
// is found by the MAC process as it fills its patches; in scheme dynamic by load_input, which also tells the scale.
#ifdef ATTENTION
#define OPERAND_STREAM operand,
#else
#define OPERAND_STREAM
#endif
#ifdef ATTENTION
#define ROW_SUMS_STREAM row_sums,
#else
#define ROW_SUMS_STREAM
#endif
#ifdef NORM
#define MOMENTS_STREAM moments,
#else
#define MOMENTS_STREAM
#endif
#ifdef DYNAMIC
#ifdef ATTENTION
#define TELLS  // scores: their rows' largest stand before them in memory
#endif
#define SCALING_STREAM scalings,
#define PASSED_STREAM passed,
#define LOADED_STREAMS scalings, passed, ROW_SUMS_STREAM MOMENTS_STREAM
#define FILLED_STREAMS
#else
#define SCALING_STREAM
#define PASSED_STREAM
#define LOADED_STREAMS
#define FILLED_STREAMS ROW_SUMS_STREAM MOMENTS_STREAM
#ifdef NORM
#define FILL_NORMS
#endif
#endif

// Beats a block of 8-bit integers takes, beats a block in memory takes, beats a pass of weights takes, halves of TN channels in a
// block, bytes of a channel's parameters.
const int BLOCK_BEATS = TM / BEAT;
#ifdef DYNAMIC
const int FLOATS = BEAT / 4;  // in a beat
const int STORED_BEATS = 4 * BLOCK_BEATS;
const int CHANNEL_BYTES = 16;
#else
const int STORED_BEATS = BLOCK_BEATS;
const int CHANNEL_BYTES = 8;
#endif
const int WEIGHT_BEATS = TN * TM / BEAT;
const int HALVES = TM / TN;

// A convolution reads its input channels from one or more tensors (a concatenation is a list of sources).
struct source_t {
    int base;         // first beat of the source's first channel block
    int plane;        // beats from one channel block to the next
    int width;        // columns stored
    int upsample;     // log2 of the nearest-neighbour upsampling that the read applies
    int end;          // index of the first channel block after this source, counted over the whole input
#ifdef DYNAMIC
    int extent;       // the beat with its tensor's least and largest element
#endif
};

enum op_kind {
    OP_CONVOLUTION = 0,
    OP_MAXIMUM = 1,
#ifdef ATTENTION
    OP_SCORES = 2,  // a feature map in the place of weights
    OP_ATTEND = 3,  // scores, softmax and the product with the values; in scheme dynamic what follows the scores
#endif
#ifdef NORM
    OP_NORM = 4,
#endif
};

// What takes a sum to an output element.
struct channel_t {
    int bias;        // with the input's zero point folded in
    int multiplier;  // affine: MULTIPLIER_BITS bits, unsigned; native: the bits of a float32
    int shift;       // fixed, affine
};

// One machine op. Sizes are in pixels and channel blocks of TM, addresses in beats.
struct op_t {
    int kind;
    int first_source;               // into SOURCES
    int in_h, in_w;                 // input, after upsampling
    int out_h, out_w;
    int kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left;
    int pad_value;                  // what a padded element holds: the input's zero point, or the least integer for a maximum
    int halves;                     // TN-wide passes that cover the channels in use of the last block
    int in_blocks;                  // channel blocks accumulated into each output block
    int group_tiles, group_step;    // after group_tiles channel tiles the first input block moves on by group_step
    int tile_h, tile_w, tile_m;     // output tile: rows, columns, channel blocks
    int tiles_y, tiles_x, tiles_m;
    // Products of the above, worked out once: the engine's own DSPs are for the array.
    int tiles, steps, taps;         // tiles in all, steps (tiles x in_blocks), kernel taps
    int step_y, step_x;             // input rows and columns from one tile to the next
    int row, plane;                 // beats of an output row, of an output channel block
    int tile_rows, tile_cols, tile_planes;  // beats from one tile to the next: down, across, along the channels
    int repeats, weight_beats, loads;       // tiles of pixels; weight beats of one of them; weight passes of all
    int parameters, weights;        // first beat of table and channel parameters, first beat of weights
    int channels;                   // output channels with parameters: a multiple of TM
    int table;                      // 1 where an activation table follows requantization
    int pre_low, pre_high, zero_point;                    // requantization: clamp and offset
    int residual;                   // first beat of the residual operand, or -1
    int a_multiplier, b_multiplier, add_offset, add_shift, add_zero_point;
    int out;                        // first beat of the output
#if defined(ATTENTION) || defined(NORM)
    int last_lanes;                 // lanes in use of the last input block: of a head's channels, or of all
#endif
#ifdef NORM
    int norm_channels, norm_epsilon;
#endif
#ifdef SPREAD
    int spread;                     // channels are stored as spread x spread pixels; 1: as channels
    int spread_blocks;              // channel blocks of a pixel
    int spread_row;                 // beats to the next row of the map
#endif
#ifdef ATTENTION
    int operand, operand_plane;     // keys (values): first beat, beats from one channel block to the next
    int keys, last_keys;            // of a head; of them in the last block
    int window_h, window_w;         // rows and columns of queries that share keys: a window's, or more than there are
    int window_row, operand_line;   // neighbouring keys in memory; beats from one row of the operand to the next
    int multiplier, scaling_shift;  // scores: of every sum; attention: the values' scale over the output's
#ifdef DYNAMIC
    int head_planes;                // scores: beats from one head's blocks to the next's
#else
    int values, values_plane;       // attention: first beat, beats from one channel block to the next
    int operand_zero;               // the values' zero point
    int key_blocks, key_halves;     // of a head; halves of TN keys in the last of them
    int chunks;                     // of keys
    int score_shift, score_zero;    // to scores: more than SCORE_SHIFT; their zero point
    int place_rows, place_columns;  // leading input blocks by which row, which column a key lies in; 0: none
    int place_shift, place_value;   // log2 of place_columns, and what stands for 1
#endif
#endif
#ifdef DYNAMIC
    int reading;                    // how the input becomes integers
    int part, parts;                // input blocks of a part, parts; sums count 256 times when the second begins
    int activation;
    int extent;                     // the beat for the output's least and largest element
    int source_count, operand_source, operand_count;  // sources of the input; first and number of the operand's
#endif
};

#endif
