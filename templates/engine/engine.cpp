// The accelerator: one DATAFLOW region an op, ops one after another.
//
//   load_input ----.
//                   > mac --> epilogue --> store_output
//   load_weights --'            /|
//        `-- parameters -------' |
//   load_residual ---------------'
//
// Where a network has attention, load_residual also gives mac keys and values, and mac gives epilogue its rows' sums and largest. In scheme
// dynamic load_input gives these, and with them the scale of what mac sums up.
#include "engine.h"

#include "epilogue.h"
#include "load.h"
#include "mac.h"
#include "store.h"

static void run_op(int index, const beat_t *feature_maps, const beat_t *residuals, const beat_t *parameters,
                   beat_t *results) {
#pragma HLS DATAFLOW
    hls::stream<beat_t> input("input"), weights("weights"), channels("channels"), residual("residual");
    hls::stream<sums_t> sums("sums");
    hls::stream<beat_t> output("output");
#ifdef ATTENTION
    hls::stream<beat_t> operand("operand");
    hls::stream<row_t> row_sums("row_sums");
// A tile's sums (a chunk's) all go before the products that are divided by them.
#pragma HLS STREAM variable=row_sums depth=ATTENTION_PIXELS
#pragma HLS STREAM variable=operand depth=WEIGHT_DEPTH
#endif
#ifdef NORM
    hls::stream<moments_t> moments("moments");
#pragma HLS STREAM variable=moments depth=TILE_PIXELS
#endif
#ifdef DYNAMIC
    hls::stream<scaling_t> scalings("scalings");
    hls::stream<beat_t> passed("passed");
#pragma HLS STREAM variable=scalings depth=2
#pragma HLS STREAM variable=passed depth=RESIDUAL_DEPTH
#endif
#pragma HLS STREAM variable=input depth=IN_DEPTH
#pragma HLS STREAM variable=weights depth=WEIGHT_DEPTH
#pragma HLS STREAM variable=channels depth=PARAMETER_DEPTH
#pragma HLS STREAM variable=residual depth=RESIDUAL_DEPTH
#pragma HLS STREAM variable=sums depth=SUMS_DEPTH
#pragma HLS STREAM variable=output depth=OUT_DEPTH
    load_input(index, feature_maps, LOADED_STREAMS input);
    load_weights(index, parameters, channels, weights);
    load_residual(index, residuals, OPERAND_STREAM residual);
    mac(index, input, weights, OPERAND_STREAM FILLED_STREAMS sums);
    epilogue(index, SCALING_STREAM PASSED_STREAM channels, sums, ROW_SUMS_STREAM MOMENTS_STREAM residual, output);
    store_output(index, output, results);
}

void hlsgen_engine(const beat_t *feature_maps, const beat_t *residuals, const beat_t *parameters, beat_t *results,
                   int first, int count, unsigned &identity) {
#pragma HLS INTERFACE m_axi port=feature_maps offset=slave bundle=feature_maps depth=FMAP_BEATS num_read_outstanding=32 max_read_burst_length=16
#pragma HLS INTERFACE m_axi port=residuals offset=slave bundle=residuals depth=FMAP_BEATS num_read_outstanding=32 max_read_burst_length=16
#pragma HLS INTERFACE m_axi port=parameters offset=slave bundle=parameters depth=PARAMETER_MEMORY_BEATS num_read_outstanding=32 max_read_burst_length=16
#pragma HLS INTERFACE m_axi port=results offset=slave bundle=results depth=FMAP_BEATS num_write_outstanding=32 max_write_burst_length=16
#pragma HLS INTERFACE s_axilite port=feature_maps
#pragma HLS INTERFACE s_axilite port=residuals
#pragma HLS INTERFACE s_axilite port=parameters
#pragma HLS INTERFACE s_axilite port=results
#pragma HLS INTERFACE s_axilite port=first
#pragma HLS INTERFACE s_axilite port=count
#pragma HLS INTERFACE s_axilite port=identity
#pragma HLS INTERFACE s_axilite port=return
    identity = IDENTITY;
    for (int i = first; i < first + count; i++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=OP_COUNT
        run_op(i, feature_maps, residuals, parameters, results);
    }
}
