// C functions around accelerator.h, for the Python driver (hlsgen_driver/xrt_device.py): no exception leaves them, a message does.
//
// Status: 0 done, 1 the kernel hangs, 2 XRT refused; hlsgen_xrt_error says what, in the thread that called.
#include <functional>

#include "accelerator.h"

namespace {

thread_local std::string message;

int guarded(const std::function<void()> &action) {
    try {
        action();
        return 0;
    } catch (const hlsgen::Hang &error) {
        message = error.what();
        return 1;
    } catch (const std::exception &error) {
        message = error.what();
        return 2;
    }
}

struct memory_t {
    xrt::bo bo;
    char *host;
};

}  // namespace

extern "C" {

const char *hlsgen_xrt_error() { return message.c_str(); }

void *hlsgen_xrt_open(int index, const char *binary, const char *top, int cores) {
    hlsgen::Card *card = 0;
    guarded([&] { card = new hlsgen::Card(unsigned(index), binary, top, cores); });
    return card;
}

void hlsgen_xrt_close(void *card) { delete static_cast<hlsgen::Card *>(card); }

// argument: the number of the kernel's pointer (accelerator.h) that the memory is for.
void *hlsgen_xrt_allocate(void *card, int core, int argument, uint64_t bytes) {
    memory_t *memory = 0;
    guarded([&] {
        xrt::bo bo = static_cast<hlsgen::Card *>(card)->allocate(core, hlsgen::Argument(argument), bytes);
        memory = new memory_t{bo, bo.map<char *>()};
    });
    return memory;
}

uint64_t hlsgen_xrt_address(void *memory) { return static_cast<memory_t *>(memory)->bo.address(); }

void *hlsgen_xrt_host(void *memory) { return static_cast<memory_t *>(memory)->host; }

// to_card: 1 from the host's copy to the card, 0 back.
int hlsgen_xrt_sync(void *memory, int to_card, uint64_t begin, uint64_t bytes) {
    return guarded([&] {
        static_cast<memory_t *>(memory)->bo.sync(to_card ? XCL_BO_SYNC_BO_TO_DEVICE : XCL_BO_SYNC_BO_FROM_DEVICE, bytes, begin);
    });
}

void hlsgen_xrt_free(void *memory) { delete static_cast<memory_t *>(memory); }

// The four memories as the kernel takes them (three are the same feature maps); all null for a call without ops.
int hlsgen_xrt_call(void *card, int core, void *maps, void *, void *parameters, void *, int first, int count, int milliseconds) {
    return guarded([&] {
        hlsgen::Card &on = *static_cast<hlsgen::Card *>(card);
        if (!maps) return on.call_empty(core, unsigned(milliseconds));
        on.call(core, static_cast<memory_t *>(maps)->bo, static_cast<memory_t *>(parameters)->bo, first, count,
                unsigned(milliseconds));
    });
}

int hlsgen_xrt_identity(void *card, int core, uint32_t *value) {
    return guarded([&] { *value = static_cast<hlsgen::Card *>(card)->identity(core); });
}

}  // extern "C"
