// The order in which every process visits the tiles of an op: rows of tiles, columns of tiles, tiles of channels.
#ifndef HLSGEN_WALK_H
#define HLSGEN_WALK_H

#include "types.h"

struct walk_t {
    int y, x, m;             // tile indices
    int group;               // channel tiles seen in the present group
    int first_block;         // first input block of the present group
};

inline int least(int a, int b) { return a < b ? a : b; }
inline int most(int a, int b) { return a > b ? a : b; }

inline walk_t walk_begin() {
    const walk_t w = {0, 0, 0, 0, 0};
    return w;
}

inline void walk_next(walk_t &w, const op_t &op) {
    w.m++;
    w.group++;
    if (w.group == op.group_tiles) {
        w.group = 0;
        w.first_block += op.group_step;
    }
    if (w.m < op.tiles_m) return;
    w.m = 0;
    w.group = 0;
    w.first_block = 0;
    w.x++;
    if (w.x < op.tiles_x) return;
    w.x = 0;
    w.y++;
}

inline int tile_count(const op_t &op) { return op.tiles_y * op.tiles_x * op.tiles_m; }
inline int tile_rows(const walk_t &w, const op_t &op) { return least(op.tile_h, op.out_h - w.y * op.tile_h); }
inline int tile_cols(const walk_t &w, const op_t &op) { return least(op.tile_w, op.out_w - w.x * op.tile_w); }
inline int tile_blocks(const walk_t &w, const op_t &op) {
    return least(op.tile_m, op.channels / TM - w.m * op.tile_m);
}

// The input patch under a tile, in input coordinates: [y0, y0 + rows) x [x0, x0 + cols), of which [y_begin, y_end) x
// [x_begin, x_end) lies on the map; the rest is padding.
struct patch_t {
    int y0, x0, rows, cols;
    int y_begin, y_end, x_begin, x_end;
};

inline patch_t patch_of(const walk_t &w, const op_t &op) {
    patch_t p;
    p.y0 = w.y * op.tile_h * op.stride_h - op.pad_top;
    p.x0 = w.x * op.tile_w * op.stride_w - op.pad_left;
    p.rows = (tile_rows(w, op) - 1) * op.stride_h + op.kernel_h;
    p.cols = (tile_cols(w, op) - 1) * op.stride_w + op.kernel_w;
    p.y_begin = most(p.y0, 0);
    p.x_begin = most(p.x0, 0);
    p.y_end = most(least(p.y0 + p.rows, op.in_h), p.y_begin);
    p.x_end = most(least(p.x0 + p.cols, op.in_w), p.x_begin);
    return p;
}

#endif
