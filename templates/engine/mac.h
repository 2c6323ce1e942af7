// The MAC array: TM output channels x TN input channels x TP pixels a cycle, output stationary.
//
// One step handles one input channel block of one tile. While a step computes, the next step's patch is filled and the
// next pass's weights are loaded, all in one loop with an initiation interval of 1; a pass is one kernel tap and one
// half (TN channels) of the block, for one block of output channels, over all pixels of the tile, its weights held.
#ifndef HLSGEN_MAC_H
#define HLSGEN_MAC_H

#include "dot.h"
#include "program.h"
#include "walk.h"
#ifdef SOFTMAX
#include "softmax.h"
#endif
#ifdef FILL_NORMS
#include "norm.h"
#endif

inline void mac(int index, hls::stream<beat_t> &in, hls::stream<beat_t> &weights,
#ifdef ATTENTION
                hls::stream<beat_t> &operand,
#endif
#ifdef SOFTMAX
                hls::stream<row_t> &row_sums,
#endif
#ifdef FILL_NORMS
                hls::stream<moments_t> &moments,
#endif
                hls::stream<sums_t> &out) {
#pragma HLS INLINE off
    const op_t op = PROGRAM[index];
#ifdef FILL_NORMS
    // LayerNorm: the input's blocks twice; the first time only their sums are taken, the second time they pass.
    const bool norms = op.kind == OP_NORM;
    const bool convolves = op.kind != OP_MAXIMUM && !norms;
    const int passes_from = norms ? op.in_blocks / 2 : 0;
    static moments_t taken[TILE_PIXELS];
#pragma HLS DEPENDENCE variable=taken inter false
    moments_t sums_taken = {0, 0};
#else
    const bool convolves = op.kind != OP_MAXIMUM;
    const bool norms = false;
    const int passes_from = 0;
#endif
    const int skipped = passes_from;
#ifdef SOFTMAX
    // Attention, chunk by chunk of the keys: steps that make scores of the queries' blocks, which stay here with each pixel's
    // largest; then steps whose patches are filled with the weights that a table makes of them.
    const bool attends = op.kind == OP_ATTEND;
    const int COPIES = MADE * BEAT / 2;  // two elements read a copy of the table
    static data_t exponents[COPIES][EXPONENT_BEATS][BEAT];
    static data_t strip[STRIPS][STRIP_DEPTH][STRIP_WIDTH];
    static data_t largest[STRIPS][ATTENTION_GROUPS * TP / STRIPS];
    static row_sum_t row_sum[MADE][ATTENTION_GROUPS * GROUP_ROWS];
#pragma HLS ARRAY_PARTITION variable=exponents dim=1 complete
#pragma HLS ARRAY_RESHAPE variable=exponents dim=3 complete
#pragma HLS ARRAY_PARTITION variable=strip dim=1 complete
#pragma HLS ARRAY_RESHAPE variable=strip dim=3 complete
#pragma HLS ARRAY_PARTITION variable=largest dim=1 complete
#pragma HLS BIND_STORAGE variable=largest type=ram_1wnr impl=lutram
#pragma HLS DEPENDENCE variable=strip inter false
#pragma HLS DEPENDENCE variable=strip intra false
#pragma HLS ARRAY_PARTITION variable=row_sum dim=1 complete
#pragma HLS DEPENDENCE variable=row_sum inter false
    row_sum_t total_weight[MADE] = {};
    data_t weight[MADE][TM] = {};
#pragma HLS ARRAY_PARTITION variable=total_weight complete
#pragma HLS ARRAY_PARTITION variable=weight complete dim=0
    const int exponent_beats = attends ? EXPONENT_BEATS : 0;
    for (int i = 0; i < exponent_beats; i++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=0 max=EXPONENT_BEATS
        const beat_t b = weights.read();
        for (int copy = 0; copy < COPIES; copy++) {
#pragma HLS UNROLL
            for (int j = 0; j < BEAT; j++) {
#pragma HLS UNROLL
                exponents[copy][i][j] = b.v[j];
            }
        }
    }
#endif

    // Double-buffered patches, one copy a pixel of the array so that each copy is read once a cycle.
    static data_t patch[2][TP][PATCH_DEPTH][TM];
#pragma HLS ARRAY_PARTITION variable=patch dim=1 complete
#pragma HLS ARRAY_PARTITION variable=patch dim=2 complete
#pragma HLS ARRAY_RESHAPE variable=patch dim=4 complete
#if PATCH_URAM
#pragma HLS BIND_STORAGE variable=patch type=ram_2p impl=uram
#endif
#pragma HLS DEPENDENCE variable=patch inter false
#pragma HLS DEPENDENCE variable=patch intra false
    static acc_t acc[ACC_DEPTH][TP][TM];
#pragma HLS ARRAY_PARTITION variable=acc dim=2 complete
#pragma HLS ARRAY_RESHAPE variable=acc dim=3 complete
    weight_t now[TN][TM], next[TN][TM];
#pragma HLS ARRAY_PARTITION variable=now dim=0 complete
#pragma HLS ARRAY_PARTITION variable=next dim=0 complete
    beat_t held[BLOCK_BEATS];  // the block last read: upsampling repeats it
    data_t word[TM];
#pragma HLS ARRAY_PARTITION variable=held complete
#pragma HLS ARRAY_PARTITION variable=word complete

    walk_t filled = walk_begin(op), computed = walk_begin(op);
    int fill_block = 0, compute_block = 0;
#ifdef SOFTMAX
    chunk_t filling = chunk_at(op, 0), computing = filling;
    if (attends) fill_block = compute_block = filling.part;
#endif
    int loads_left = convolves ? op.loads : 0;
    int load_at = WEIGHT_BEATS;  // weight beats loaded of the next pass
    bool bank = false;           // patch being filled

    for (int s = 0; s <= op.steps; s++) {
#pragma HLS LOOP_TRIPCOUNT min=2 max=MAX_STEPS
        // What this step fills.
        const patch_t area = patch_of(filled, op);
#ifndef DYNAMIC
        int source = op.first_source;
        while (s < op.steps && fill_block < op.in_blocks && filled.first_block + fill_block >= SOURCES[source].end) {
#pragma HLS LOOP_TRIPCOUNT min=0 max=MAX_SOURCES
            source++;
        }
        const int repeat_mask = (1 << SOURCES[source].upsample) - 1;
#endif
#ifdef SOFTMAX
        const bool waits = attends && fill_block == op.in_blocks;  // for the chunk's last scores
        const bool weighs = attends && fill_block > op.in_blocks;
        const int weighed = fill_block - op.in_blocks - 1;  // block of the chunk's keys
        const bool weighed_last = filling.first + weighed == op.key_blocks - 1;
        const int fill_pixels = times(area.rows, area.cols), fill_groups = (fill_pixels + TP - 1) / TP;
        // Of a group GROUP_ROWS words are filled: pixel p is read from copy p of the patch only.
        const int filled_words = weighs ? fill_groups * GROUP_ROWS : fill_pixels;
        int fill_pair = 0, fill_group = 0;
        // Narrow scores lie in the order in which they are made: a beat of a pixel of all groups, then the next beat.
        int strip_group = weighs ? times(weighed, fill_groups) * SCORE_PARTS : 0, strip_at = strip_group, largest_at = 0;
#else
        const bool waits = false, weighs = false;
        const int filled_words = times(area.rows, area.cols);
#endif
        const int fill_length = s < op.steps && !waits ? filled_words * BLOCK_BEATS : 0;
        int fill_y = area.y0, fill_x = area.x0, fill_beat = 0, fill_at = 0;

        // What this step computes: the patch filled by the step before.
        const int rows = tile_rows(computed, op), cols = tile_cols(computed, op);
        const int patch_cols = times(cols - 1, op.stride_w) + op.kernel_w;
        const int groups = (times(rows, cols) + TP - 1) / TP;
        const int pass_length = most(groups, PASS_MIN);
#ifdef SOFTMAX
        const bool scores = attends && compute_block < op.in_blocks;
        const bool weighing = attends && compute_block > op.in_blocks;
        const int weighing_block = compute_block - op.in_blocks - 1;
        const bool computes = !attends || compute_block != op.in_blocks;
        const int sums_begin = weighing ? op.in_blocks + 1 : op.place_rows > 0 ? op.place_rows - 1 : skipped;
        const int sums_end = weighing ? op.in_blocks + computing.blocks : op.in_blocks - 1;
        const int key_halves = computing.first + weighing_block == op.key_blocks - 1 ? op.key_halves : HALVES;
        const int halves = weighing ? key_halves : norms || compute_block == op.in_blocks - 1 ? op.halves : HALVES;
        const int blocks = scores ? computing.blocks : norms ? 1 : tile_blocks(computed, op);
        met_t met = met_by(op, computing, compute_block);
        if (!scores) {
            met.first = 0;
            met.step = 1;
            met.count = blocks;
        }
        const int passing = met.count, slot_step = times(met.step, groups);
        int block_slot = times(met.first, groups);
        int key_block = 0;  // of the chunk, where all of them are met
#else
        const bool computes = true;
        const int sums_begin = skipped, sums_end = op.in_blocks - 1;
        const int halves = norms || compute_block == op.in_blocks - 1 ? op.halves : HALVES;
        const int blocks = norms ? 1 : tile_blocks(computed, op);
        const int passing = blocks, slot_step = groups;
        int block_slot = 0;
#endif
#ifdef SOFTMAX
        // The last pass over a block of keys makes scores, and is made once for each part of them.
        const int parts = scores && compute_block == sums_end ? SCORE_PARTS : 1;
        int part_pixel = 0, part_beat = 0, part = 0, put_at = 0, put_largest = 0;
#else
        const int parts = 1, part = 0;
#endif
        const int compute_length = s > 0 && computes && compute_block >= skipped
                                       ? times(pass_length, times(times(passing, halves + parts - 1), op.taps)) : 0;
        int at = 0, half = 0, tap_y = 0, tap_x = 0, tap = 0;

        // Pixel p of a group is pixel (group * TP + p) of the tile, row by row; the step from group to group is
        // step_rows rows and step_cols columns.
        int column0[TP], address0[TP], column[TP], address[TP];
#pragma HLS ARRAY_PARTITION variable=column0 complete
#pragma HLS ARRAY_PARTITION variable=address0 complete
#pragma HLS ARRAY_PARTITION variable=column complete
#pragma HLS ARRAY_PARTITION variable=address complete
        const int row_stride = times(op.stride_h, patch_cols);
        int y = 0, x = 0;
        for (int p = 0; p < TP; p++) {
            column0[p] = x;
            address0[p] = times(y, row_stride) + times(x, op.stride_w);
            x++;
            if (x == cols) {
                x = 0;
                y++;
            }
        }
        const int step_rows = y, step_cols = x;
        for (int p = 0; p < TP; p++) {
#pragma HLS UNROLL
            column[p] = column0[p];
            address[p] = address0[p];
        }
        const int step_address = times(step_rows, row_stride) + times(step_cols, op.stride_w);
        const int wrap_address = row_stride - times(cols, op.stride_w);

        if (s == 0 && loads_left > 0) {
            load_at = 0;
            loads_left--;
        }
        const int length = most(most(fill_length, compute_length), s == 0 && convolves ? WEIGHT_BEATS : 0);

        for (int t = 0; t < length; t++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_STEP_CYCLES
#pragma HLS DEPENDENCE variable=acc inter RAW distance=PASS_MIN true
#ifdef SOFTMAX
#pragma HLS DEPENDENCE variable=largest inter RAW distance=PASS_MIN true
#endif
            if (t < compute_length) {
                if (at == 0 && part == 0 && convolves) {
                    // The pass begins: take the weights loaded during the one before, let the next ones load.
                    for (int n = 0; n < TN; n++) {
#pragma HLS UNROLL
                        for (int m = 0; m < TM; m++) {
#pragma HLS UNROLL
                            now[n][m] = next[n][m];
                        }
                    }
                    if (loads_left > 0) {
                        load_at = 0;
                        loads_left--;
                    }
                }
                if (at < groups) {
                    const int slot = block_slot + at;
                    const bool first = norms || (compute_block <= sums_begin && half == 0 && tap_y == 0 && tap_x == 0);
                    const bool last = norms || (compute_block == sums_end && half == halves - 1 &&
                                                tap_y == op.kernel_h - 1 && tap_x == op.kernel_w - 1);
#ifdef DYNAMIC
                    // Products of high halves are behind: they count 256 times as much as those that come.
                    const bool lifts = compute_block == op.part && half == 0 && tap_y == 0 && tap_x == 0;
#endif
                    sums_t total;
                    data_t pixels[TP][TM], lanes[TP][TN];
#pragma HLS ARRAY_PARTITION variable=total.v dim=0 complete
#pragma HLS ARRAY_PARTITION variable=pixels dim=0 complete
#pragma HLS ARRAY_PARTITION variable=lanes dim=0 complete
                    for (int p = 0; p < TP; p++) {
#pragma HLS UNROLL
                        // Pixels past the tile's end read anything; the epilogue drops them.
                        const int where = address[p] + tap < PATCH_DEPTH ? address[p] + tap : 0;
                        for (int m = 0; m < TM; m++) {
#pragma HLS UNROLL
                            pixels[p][m] = bank ? patch[0][p][where][m] : patch[1][p][where][m];
                        }
                        for (int n = 0; n < TN; n++) {
#pragma HLS UNROLL
                            lanes[p][n] = pixels[p][half * TN + n];
                        }
                    }
                    if (convolves) {
                        dot(now, lanes, total.v);
                        for (int p = 0; p < TP; p++) {
#pragma HLS UNROLL
                            for (int m = 0; m < TM; m++) {
#pragma HLS UNROLL
#ifdef DYNAMIC
                                const acc_t before = lifts ? acc_t(acc[slot][p][m] * 256) : acc[slot][p][m];
#else
                                const acc_t before = acc[slot][p][m];
#endif
                                total.v[p][m] += first ? acc_t(0) : before;
                            }
                        }
                    } else {
                        for (int p = 0; p < TP; p++) {
#pragma HLS UNROLL
                            for (int m = 0; m < TM; m++) {
#pragma HLS UNROLL
                                const acc_t v = pixels[p][m];
                                total.v[p][m] = first || v > acc[slot][p][m] ? v : acc[slot][p][m];
                            }
                        }
                    }
#ifdef SOFTMAX
                    if (last && scores) {
                        // Keys past the head's last count for nothing.
                        const int keys = computing.first + key_block == op.key_blocks - 1 ? op.last_keys : TM;
                        const int in_largest = NARROW ? put_largest + at : at;
                        for (int q = 0; q < STRIPS; q++) {
#pragma HLS UNROLL
                            data_t made[STRIP_WIDTH + 1];
#pragma HLS ARRAY_PARTITION variable=made complete
                            for (int j = 0; j < STRIP_WIDTH; j++) {
#pragma HLS UNROLL
                                const int m = NARROW ? part_beat * BEAT + j : j;
                                const data_t score = score_of(total.v[NARROW ? part_pixel : q][m], op);
                                strip[q][put_at][j] = score;
                                made[j] = m < keys ? score : data_t(-128);
                            }
                            made[STRIP_WIDTH] = key_block == 0 && part_beat == 0 ? data_t(-128) : largest[q][in_largest];
                            largest[q][in_largest] = largest_of<0, STRIP_WIDTH + 1>::tree(made);
                        }
                        put_at++;
                    } else
#endif
                    if (last) {
                        out.write(total);
                    } else {
                        for (int p = 0; p < TP; p++) {
#pragma HLS UNROLL
                            for (int m = 0; m < TM; m++) {
#pragma HLS UNROLL
                                acc[slot][p][m] = total.v[p][m];
                            }
                        }
                    }
                }
                at++;
                for (int p = 0; p < TP; p++) {
#pragma HLS UNROLL
                    column[p] += step_cols;
                    address[p] += step_address;
                    if (column[p] >= cols) {
                        column[p] -= cols;
                        address[p] += wrap_address;
                    }
                }
                if (at == pass_length) {
                    at = 0;
                    for (int p = 0; p < TP; p++) {
#pragma HLS UNROLL
                        column[p] = column0[p];
                        address[p] = address0[p];
                    }
#ifdef SOFTMAX
                    const bool again = half == halves - 1 && part < parts - 1;
                    if (again) {
                        part++;
                        part_beat++;
                        if (part_beat == BLOCK_BEATS) {
                            part_beat = 0;
                            part_pixel++;
                            put_largest += groups;
                        }
                    }
#else
                    const bool again = false;
#endif
                    if (!again) {
                        tap_x++;
                        tap++;  // tap_y * patch_cols + tap_x
                    }
                    if (tap_x == op.kernel_w) {
                        tap_x = 0;
                        tap += patch_cols - op.kernel_w;
                        tap_y++;
                    }
                    if (tap_y == op.kernel_h) {
                        tap_y = 0;
                        tap = 0;
                        half++;
                    }
                    if (half == halves) {
                        half = 0;
                        block_slot += slot_step;
#ifdef SOFTMAX
                        part = part_pixel = part_beat = put_largest = 0;
                        key_block++;
#endif
                    }
                }
            }

            if (load_at < WEIGHT_BEATS) {
#ifdef ATTENTION
                const beat_t b = op.kind == OP_CONVOLUTION ? weights.read() : operand.read();
#else
                const beat_t b = weights.read();
#endif
                for (int j = 0; j < BEAT; j++) {
#pragma HLS UNROLL
                    next[load_at / BLOCK_BEATS][load_at % BLOCK_BEATS * BEAT + j] = b.v[j];
                }
                load_at++;
            }

            if (t < fill_length) {
#ifdef DYNAMIC
                const bool inside = true, fresh = true;  // load_input gives padding too
#else
                const bool inside = fill_y >= area.y_begin && fill_y < area.y_end && fill_x >= area.x_begin &&
                                    fill_x < area.x_end;
                const bool fresh = !weighs && inside && (fill_x == area.x_begin || (fill_x & repeat_mask) == 0);
#endif
                if (fresh) held[fill_beat] = in.read();
                for (int j = 0; j < BEAT; j++) {
#pragma HLS UNROLL
                    word[fill_beat * BEAT + j] = inside ? data_t(held[fill_beat].v[j]) : data_t(op.pad_value);
                }
#ifdef SOFTMAX
                if (weighs) {
                    // Scores become weights; keys past the head's last weigh nothing.
                    const int keys = weighed_last ? op.last_keys : TM;
                    // Each pixel's memory is read once; those of the pair are chosen then.
                    data_t scored[STRIPS][BEAT], highest[STRIPS];
#pragma HLS ARRAY_PARTITION variable=scored complete dim=0
#pragma HLS ARRAY_PARTITION variable=highest complete
                    for (int p = 0; p < STRIPS; p++) {
#pragma HLS UNROLL
                        highest[p] = largest[p][largest_at];
                        for (int j = 0; j < BEAT; j++) {
#pragma HLS UNROLL
                            scored[p][j] = strip[p][strip_at][NARROW ? j : fill_beat * BEAT + j];
                        }
                    }
                    if (NARROW) strip_at += fill_groups;
                    row_t row;
                    for (int q = 0; q < MADE; q++) {
#pragma HLS UNROLL
                        const int p = NARROW ? 0 : least(fill_pair * MADE + q, TP - 1);  // past the group's last: anything
                        const data_t most = highest[p];
                        if (fill_beat == 0) total_weight[q] = weighed == 0 ? row_sum_t(0) : row_sum[q][fill_at];
                        for (int j = 0; j < BEAT; j++) {
#pragma HLS UNROLL
                            const int key = fill_beat * BEAT + j;
                            const int below = (int(most) - int(scored[p][j])) & 255;
                            const data_t found = exponents[(q * BEAT + j) / 2][below / BEAT][below % BEAT];
                            weight[q][key] = key < keys ? found : data_t(0);
                            total_weight[q] += row_sum_t(int(weight[q][key]));
                        }
                        if (fill_beat == BLOCK_BEATS - 1) row_sum[q][fill_at] = total_weight[q];
                        row.sum[q] = total_weight[q];
                        row.largest[q] = most;
                    }
                    const bool there = times(fill_group, TP) + fill_pair * MADE < fill_pixels;
                    if (fill_beat == BLOCK_BEATS - 1 && weighed == filling.blocks - 1 && there) row_sums.write(row);
                }
#endif
#ifdef FILL_NORMS
                if (norms && fill_block < passes_from) {
                    const int used = fill_block == passes_from - 1 ? op.last_lanes : TM;
                    if (fill_beat == 0) {
                        sums_taken.sum = fill_block == 0 ? norm_sum_t(0) : taken[fill_at].sum;
                        sums_taken.squares = fill_block == 0 ? norm_squares_t(0) : taken[fill_at].squares;
                    }
                    for (int j = 0; j < BEAT; j++) {
#pragma HLS UNROLL
                        const int x = fill_beat * BEAT + j < used ? int(word[fill_beat * BEAT + j]) : 0;
                        sums_taken.sum += x;
                        sums_taken.squares += x * x;
                    }
                    if (fill_beat == BLOCK_BEATS - 1) {
                        taken[fill_at] = sums_taken;
                        if (fill_block == passes_from - 1) moments.write(sums_taken);
                    }
                }
#endif
                fill_beat++;
                if (fill_beat == BLOCK_BEATS) {
                    for (int p = 0; p < TP; p++) {
#pragma HLS UNROLL
#ifdef SOFTMAX
                        const bool takes = !weighs || p / MADE == fill_pair;
                        const int where = weighs ? least(times(fill_group, TP) + p, PATCH_DEPTH - 1) : fill_at;
#else
                        const bool takes = true;
                        const int where = fill_at;
#endif
                        for (int m = 0; m < TM; m++) {
#pragma HLS UNROLL
#ifdef SOFTMAX
                            const data_t v = weighs ? weight[p % MADE][m] : word[m];
#else
                            const data_t v = word[m];
#endif
                            if (takes && bank) {
                                patch[1][p][where][m] = v;
                            } else if (takes) {
                                patch[0][p][where][m] = v;
                            }
                        }
                    }
#ifdef SOFTMAX
                    fill_pair++;
                    if (NARROW) largest_at += fill_groups;
                    if (fill_pair == GROUP_ROWS) {
                        fill_pair = 0;
                        fill_group++;
                        strip_group++;
                        strip_at = strip_group;
                        largest_at = fill_group;
                    }
#endif
                    fill_beat = 0;
                    fill_at++;
                    fill_x++;
                    if (fill_x == area.x0 + area.cols) {
                        fill_x = area.x0;
                        fill_y++;
                    }
                }
            }
        }

#ifdef SOFTMAX
        if (attends) {
            if (s > 0 && !chunk_next(computing, op)) walk_next(computed, op);
            if (!chunk_next(filling, op)) walk_next(filled, op);
            compute_block = computing.part;
            fill_block = filling.part;
            bank = !bank;
            continue;
        }
#endif
        if (s > 0) {
            compute_block++;
            if (compute_block == op.in_blocks) {
                compute_block = 0;
                walk_next(computed, op);
            }
        }
        fill_block++;
        if (fill_block == op.in_blocks) {
            fill_block = 0;
            walk_next(filled, op);
        }
        bank = !bank;
    }
}

#endif
