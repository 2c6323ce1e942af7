// Runs dot() on VECTORS extreme and random operands, holds it to plain loops, and writes what it saw to argv[1]: a line a
// vector, hexadecimal, most significant first: the weights [n][m], the pixels [p][n], the sums [p][m] in SUM_BITS each.
#include <cstdio>

#include "dot.h"

static unsigned state = 7;
static unsigned random_word() {
    state = state * 1664525u + 1013904223u;
    return state >> 8;
}

// 0, 1: everything at an end. 2, 3: each operand at either end. Then anything.
static int value(int vector, bool weight) {
    if (vector == 0) return -128;
    if (vector == 1) return weight ? -128 : 127;
    if (vector < 4) return random_word() & 64 ? 127 : -128;
    return int(random_word() >> 4 & 255) - 128;
}

static void write_bits(std::FILE *f, const unsigned char *bits, int count) {
    while (count % 4) count++;
    for (int i = count - 4; i >= 0; i -= 4) {
        std::fprintf(f, "%x", bits[i] | bits[i + 1] << 1 | bits[i + 2] << 2 | bits[i + 3] << 3);
    }
}

int main(int argc, char **argv) {
    std::FILE *f = argc > 1 ? std::fopen(argv[1], "w") : nullptr;
    for (int vector = 0; vector < VECTORS; vector++) {
        weight_t w[TN][TM];
        data_t x[TP][TN];
        acc_t sum[TP][TM];
        static unsigned char wb[TN * TM * 8 + 4], xb[TP * TN * 8 + 4], sb[TP * TM * SUM_BITS + 4];
        for (int n = 0; n < TN; n++) {
            for (int m = 0; m < TM; m++) {
                const int v = value(vector, true);
                w[n][m] = v;
                for (int i = 0; i < 8; i++) wb[(n * TM + m) * 8 + i] = v >> i & 1;
            }
            for (int p = 0; p < TP; p++) {
                const int v = value(vector, false);
                x[p][n] = v;
                for (int i = 0; i < 8; i++) xb[(p * TN + n) * 8 + i] = v >> i & 1;
            }
        }
        dot(w, x, sum);
        for (int p = 0; p < TP; p++) {
            for (int m = 0; m < TM; m++) {
                int expected = 0;
                for (int n = 0; n < TN; n++) expected += int(w[n][m]) * int(x[p][n]);
                if (expected != int(sum[p][m])) {
                    std::printf("vector %d, pixel %d, channel %d: expected %d, got %d\n", vector, p, m, expected, int(sum[p][m]));
                    return 1;
                }
                for (int i = 0; i < SUM_BITS; i++) sb[(p * TM + m) * SUM_BITS + i] = expected >> i & 1;
            }
        }
        if (f) {
            write_bits(f, wb, TN * TM * 8);
            std::fputc(' ', f);
            write_bits(f, xb, TP * TN * 8);
            std::fputc(' ', f);
            write_bits(f, sb, TP * TM * SUM_BITS);
            std::fputc('\n', f);
        }
    }
    if (f) std::fclose(f);
    return 0;
}
