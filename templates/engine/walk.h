// The order in which every process visits the tiles of an op: rows of tiles, columns of tiles, tiles of channels.
#ifndef HLSGEN_WALK_H
#define HLSGEN_WALK_H

#include "types.h"

// A product of two sizes (a below 2^12, b below 2^24), in LUTs: the DSPs are for the array.
inline int times(int a, int b) {
#pragma HLS INLINE
#if defined(__SYNTHESIS__) || defined(HLSGEN_STRICT)
    const ap_int<13> x = a;
    const ap_int<25> y = b;
    const ap_int<32> product = x * y;
#pragma HLS BIND_OP variable=product op=mul impl=fabric
    return product;
#else
    return a * b;
#endif
}

inline int least(int a, int b) { return a < b ? a : b; }
inline int most(int a, int b) { return a > b ? a : b; }

// `rows` runs of `length` beats, `pitch` beats apart, of which 2^upsample read the same (the first is number `first` of its own).
// A run is a burst, and bursts wait for each other; runs shorter than GATHER are read by one loop instead, whose requests, a
// beat each, overlap.
inline void read_rows(const beat_t *memory, int at, int rows, int length, int pitch, int first, int upsample,
                      hls::stream<beat_t> &out) {
#pragma HLS INLINE
    const int mask = (1 << upsample) - 1;
    if (rows > 1 && length < GATHER) {
        const int beats = times(rows, length);
        int row_at = at, row = first & mask, i = 0;
        for (int n = 0; n < beats; n++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_BURST
            out.write(memory[row_at + i]);
            i++;
            if (i == length) {
                i = 0;
                row = (row + 1) & mask;
                if (row == 0) row_at += pitch;
            }
        }
        return;
    }
    for (int r = 0; r < rows; r++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_ROWS
        const int row_at = at + times((((first & mask) + r) >> upsample), pitch);
        for (int i = 0; i < length; i++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_BURST
            out.write(memory[row_at + i]);
        }
    }
}

// The same for what is written.
inline void write_rows(beat_t *memory, int at, int rows, int length, int pitch, hls::stream<beat_t> &in) {
#pragma HLS INLINE
    if (rows > 1 && length < GATHER) {
        const int beats = times(rows, length);
        int row_at = at, i = 0;
        for (int n = 0; n < beats; n++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_BURST
            memory[row_at + i] = in.read();
            i++;
            if (i == length) {
                i = 0;
                row_at += pitch;
            }
        }
        return;
    }
    int row_at = at;
    for (int r = 0; r < rows; r++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_ROWS
        for (int i = 0; i < length; i++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_BURST
            memory[row_at + i] = in.read();
        }
        row_at += pitch;
    }
}

// A place in the walk. Positions grow by addition; nothing is multiplied.
struct walk_t {
    int y, x, m;             // tile indices
    int out_y, out_x;        // the tile's first output row and column
    int in_y, in_x;          // the patch's first input row and column
    int block;               // the tile's first output channel block
    int row_at, col_at, block_at;  // beats: first row, first column, first channel block
    int group;               // channel tiles seen in the present group
    int first_block;         // first input block of the present group
};

inline walk_t walk_begin(const op_t &op) {
    walk_t w;
    w.y = w.x = w.m = 0;
    w.out_y = w.out_x = w.block = 0;
    w.in_y = -op.pad_top;
    w.in_x = -op.pad_left;
    w.row_at = w.col_at = w.block_at = 0;
    w.group = w.first_block = 0;
    return w;
}

inline void walk_next(walk_t &w, const op_t &op) {
    w.m++;
    w.block += op.tile_m;
    w.block_at += op.tile_planes;
    w.group++;
    if (w.group == op.group_tiles) {
        w.group = 0;
        w.first_block += op.group_step;
    }
    if (w.m < op.tiles_m) return;
    w.m = w.block = w.block_at = 0;
    w.group = w.first_block = 0;
    w.x++;
    w.out_x += op.tile_w;
    w.in_x += op.step_x;
    w.col_at += op.tile_cols;
    if (w.x < op.tiles_x) return;
    w.x = w.out_x = w.col_at = 0;
    w.in_x = -op.pad_left;
    w.y++;
    w.out_y += op.tile_h;
    w.in_y += op.step_y;
    w.row_at += op.tile_rows;
}

inline int tile_rows(const walk_t &w, const op_t &op) { return least(op.tile_h, op.out_h - w.out_y); }
inline int tile_cols(const walk_t &w, const op_t &op) { return least(op.tile_w, op.out_w - w.out_x); }
inline int tile_blocks(const walk_t &w, const op_t &op) { return least(op.tile_m, op.channels / TM - w.block); }

#ifdef SOFTMAX
// Where a process is in an attention of a tile: keys are taken chunk by chunk, of each the input blocks first, which make scores,
// then nothing, until the largest scores are known, then the blocks of keys, whose weights the values are multiplied by.
struct chunk_t {
    int first, blocks;  // of the chunk's blocks of keys
    int part;           // input block; op.in_blocks: between; from there on blocks of keys
};

// The blocks of a chunk that input block `c` is multiplied with: from `first` on, every `step`th, `count` of them. A one alone in a
// row of keys, or in a column, is zero for all other rows and columns: their blocks are passed over.
struct met_t {
    int first, step, count;
};

inline met_t met_by(const op_t &op, const chunk_t &k, int c) {
#pragma HLS INLINE
    met_t m;
    m.first = 0;
    m.step = 1;
    m.count = k.blocks;
    if (c < op.place_rows) {
        // Rows of keys c * TM to c * TM + TM - 1, of place_columns blocks each; a chunk begins with a row.
        m.first = most(times(op.place_columns, c * TM) - k.first, 0);
        m.count = most(least(times(op.place_columns, (c + 1) * TM) - k.first, k.blocks) - m.first, 0);
    } else if (c < op.place_rows + op.place_columns) {
        m.first = c - op.place_rows;
        m.step = op.place_columns;
        m.count = k.blocks >> op.place_shift;  // one of each row's
    }
    return m;
}

// The first input block from `part` on that meets any of the chunk's keys.
inline void chunk_meets(chunk_t &k, const op_t &op) {
#pragma HLS INLINE
    while (k.part < op.place_rows && met_by(op, k, k.part).count == 0) {
#pragma HLS LOOP_TRIPCOUNT min=0 max=MAX_BLOCKS
        k.part++;
    }
}

inline chunk_t chunk_at(const op_t &op, int first) {
#pragma HLS INLINE
    chunk_t k;
    k.first = first;
    k.blocks = least(CHUNK_BLOCKS, op.key_blocks - first);
    k.part = 0;
    chunk_meets(k, op);
    return k;
}

// The next of a chunk's parts, or the next chunk's first; false after the tile's last.
inline bool chunk_next(chunk_t &k, const op_t &op) {
#pragma HLS INLINE
    k.part++;
    chunk_meets(k, op);
    if (k.part <= op.in_blocks + k.blocks) return true;
    const int first = k.first + CHUNK_BLOCKS;
    const bool more = first < op.key_blocks;
    k = chunk_at(op, more ? first : 0);
    return more;
}
#endif

// The input patch under a tile, in input coordinates: [y0, y0 + rows) x [x0, x0 + cols), of which [y_begin, y_end) x
// [x_begin, x_end) lies on the map; the rest is padding.
struct patch_t {
    int y0, x0, rows, cols;
    int y_begin, y_end, x_begin, x_end;
};

inline patch_t patch_of(const walk_t &w, const op_t &op) {
    patch_t p;
    p.y0 = w.in_y;
    p.x0 = w.in_x;
    p.rows = times(tile_rows(w, op) - 1, op.stride_h) + op.kernel_h;
    p.cols = times(tile_cols(w, op) - 1, op.stride_w) + op.kernel_w;
    p.y_begin = most(p.y0, 0);
    p.x_begin = most(p.x0, 0);
    p.y_end = most(least(p.y0 + p.rows, op.in_h), p.y_begin);
    p.x_end = most(least(p.x0 + p.cols, op.in_w), p.x_begin);
    return p;
}

#endif
