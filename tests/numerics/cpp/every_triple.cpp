// Proves templates/engine/dot.h on every operand triple and on extreme sums. argv[1]: step between the triples that the
// exact-width types run through (1: all). Prints what it checked; exit status 1 and the first difference otherwise.
#include <cstdio>
#include <cstdlib>

#include "dot.h"

static long long checked = 0;

static void expect(const char *what, int terms, int a, int b, int c, long long expected, long long got) {
    checked++;
    if (expected == got) return;
    std::printf("%s, %d terms of %d %d x %d: expected %lld, got %lld\n", what, terms, a, b, c, expected, got);
    std::exit(1);
}

// `terms` times the same triple: sums as far apart as they get.
template <int TERMS, class W>
static void repeat(int a, int b, int c) {
    typename W::operand high[TERMS], shared[TERMS];
    typename W::port port[TERMS];
    for (int n = 0; n < TERMS; n++) {
        high[n] = a;
        shared[n] = c;
        port[n] = pack<W>(a, b);
    }
    typename W::sum high_sum, low_sum;
    pair_dot<TERMS, W>(port, high, shared, high_sum, low_sum);
    expect("high", TERMS, a, b, c, TERMS * a * c, (long long)high_sum);
    expect("low", TERMS, a, b, c, TERMS * b * c, (long long)low_sum);
}

static unsigned state = 1;
static int random_byte() {
    state = state * 1664525u + 1013904223u;
    const int byte = int(state >> 24) - 128;
    // Half of them at the ends, where sums are extreme.
    return (state >> 16 & 1) ? byte : (state >> 17 & 1) ? 127 : -128;
}

template <int TERMS, class W>
static void mix(int rounds) {
    for (int i = 0; i < rounds; i++) {
        typename W::operand high[TERMS], shared[TERMS];
        typename W::port port[TERMS];
        int high_expected = 0, low_expected = 0;
        for (int n = 0; n < TERMS; n++) {
            const int a = random_byte(), b = random_byte(), c = random_byte();
            high[n] = a;
            shared[n] = c;
            port[n] = pack<W>(a, b);
            high_expected += a * c;
            low_expected += b * c;
        }
        typename W::sum high_sum, low_sum;
        pair_dot<TERMS, W>(port, high, shared, high_sum, low_sum);
        expect("mixed high", TERMS, 0, 0, i, high_expected, (long long)high_sum);
        expect("mixed low", TERMS, 0, 0, i, low_expected, (long long)low_sum);
    }
}

template <int TERMS>
static void ends() {
    const int values[] = {-128, -127, -1, 0, 1, 127};
    for (int a : values)
        for (int b : values)
            for (int c : values) {
                repeat<TERMS, native_words>(a, b, c);
                repeat<TERMS, exact_words<TERMS> >(a, b, c);
            }
    mix<TERMS, native_words>(20000);
    mix<TERMS, exact_words<TERMS> >(1000);
}

int main(int argc, char **argv) {
    const int step = argc > 1 ? std::atoi(argv[1]) : 1;
    for (int a = -128; a < 128; a++) {
        for (int b = -128; b < 128; b++) {
            const long long packed = pack<native_words>(a, b);
            if (packed < -(1LL << (DSP_PORT - 1)) || packed >= 1LL << (DSP_PORT - 1)) {
                std::printf("%d and %d do not fit the port\n", a, b);
                return 1;
            }
            expect("port", 1, a, b, 0, packed, (long long)pack<exact_words<1> >(a, b));
            expect("product", 1, a, b, 0, a * b, lut_product<native_words>(a, b));
            expect("product, exact width", 1, a, b, 0, a * b, (long long)lut_product<exact_words<1> >(a, b));
            for (int c = -128; c < 128; c++) {
                repeat<1, native_words>(a, b, c);
                repeat<16, native_words>(a, b, c);
            }
        }
    }
    for (int i = 0; i < 1 << 24; i += step) {
        const int a = (i >> 16) - 128, b = (i >> 8 & 255) - 128, c = (i & 255) - 128;
        repeat<1, exact_words<1> >(a, b, c);
    }
    ends<1>();
    ends<2>();
    ends<3>();
    ends<4>();
    ends<5>();
    ends<8>();
    ends<9>();
    ends<13>();
    ends<16>();
    ends<17>();
    ends<32>();
    ends<64>();
    std::printf("%lld\n", checked);
    return 0;
}
