// A simulated device around the C-simulation of the engine, as a shared library: what `--device sim` binds.
//
// The driver sees what it sees on a board: memory with physical addresses, and for each core the s_axilite register file
// that Vitis HLS generates (UG1399, "S_AXILITE Control Register Map"): ap_start, ap_done (cleared when read), ap_idle,
// ap_ready, the interrupt registers (status bits toggle when 1 is written), arguments from 0x10 on. A core runs in a
// thread of its own; the engine's buffers are static, so one core computes at a time.
//
// An address that no allocated buffer holds makes the core hang, as a bus that never answers does. Faults for tests:
// see hlsgen_sim_fault.
#include <condition_variable>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "config.h"
#include "engine.h"

namespace {

const unsigned START = 1, DONE = 2, IDLE = 4, READY = 8;
const unsigned CTRL = 0x00, GIER = 0x04, IP_IER = 0x08, IP_ISR = 0x0c;

struct named_t {
    std::string name;
    unsigned offset;
};

// The registers of the engine's arguments, named as in the hardware hand-off file: a pointer takes two with 64-bit addresses.
std::vector<named_t> register_file(int address_bits) {
    std::vector<named_t> found = {{"CTRL", CTRL}, {"GIER", GIER}, {"IP_IER", IP_IER}, {"IP_ISR", IP_ISR}};
    unsigned offset = 0x10;
    for (const char *pointer : {"feature_maps", "residuals", "parameters", "results"}) {
        if (address_bits == 64) {
            found.push_back({std::string(pointer) + "_1", offset});
            found.push_back({std::string(pointer) + "_2", offset + 4});
            offset += 12;
        } else {
            found.push_back({pointer, offset});
            offset += 8;
        }
    }
    for (const char *scalar : {"first", "count", "identity"}) {
        found.push_back({scalar, offset});
        offset += 8;
    }
    found.push_back({"identity_ctrl", offset - 4});
    return found;
}

std::mutex engine_lock;

struct device_t;

struct core_t {
    device_t *device;
    std::mutex lock;
    std::condition_variable interrupt;
    std::map<unsigned, unsigned> values;  // argument registers
    bool running = false, done = false, ready = false, enabled = false;
    unsigned ier = 0, isr = 0;
    std::thread thread;

    bool line() const { return enabled && isr; }
};

struct device_t {
    int address_bits;
    std::map<std::string, unsigned> offsets;
    std::vector<named_t> registers;
    std::vector<std::unique_ptr<core_t>> cores;
    std::mutex lock;
    std::map<uint64_t, std::vector<char>> memory;  // by physical address
    uint64_t next;
    std::map<std::string, uint64_t> faults;

    char *at(uint64_t address, size_t bytes) {
        std::lock_guard<std::mutex> held(lock);
        std::map<uint64_t, std::vector<char>>::iterator found = memory.upper_bound(address);
        if (found == memory.begin()) return 0;
        --found;
        const uint64_t begin = address - found->first;
        return begin <= found->second.size() && bytes <= found->second.size() - begin ? &found->second[begin] : 0;
    }

    uint64_t fault(const std::string &name) {
        std::lock_guard<std::mutex> held(lock);
        std::map<std::string, uint64_t>::const_iterator found = faults.find(name);
        return found == faults.end() ? 0 : found->second;
    }

    uint64_t argument(const core_t &core, const std::string &name) const {
        std::map<std::string, unsigned>::const_iterator low = offsets.find(address_bits == 64 ? name + "_1" : name);
        const uint64_t value = value_of(core, low->second);
        return address_bits == 64 ? value | uint64_t(value_of(core, low->second + 4)) << 32 : value;
    }

    static unsigned value_of(const core_t &core, unsigned offset) {
        std::map<unsigned, unsigned>::const_iterator found = core.values.find(offset);
        return found == core.values.end() ? 0 : found->second;
    }
};

// One call of the engine with the arguments in the registers; false where it never ends.
bool execute(core_t &core, unsigned &identity) {
    device_t &device = *core.device;
    const uint64_t maps_at = device.argument(core, "feature_maps");
    const int first = int(device.value_of(core, device.offsets["first"]));
    const int count = int(device.value_of(core, device.offsets["count"]));
    beat_t *maps = 0, *residuals = 0, *parameters = 0, *results = 0;
    if (count > 0) {
        if (first < 0 || count > OP_COUNT - first || device.fault("never-done")) return false;
        maps = reinterpret_cast<beat_t *>(device.at(maps_at, sizeof(beat_t) * FMAP_BEATS));
        residuals = reinterpret_cast<beat_t *>(device.at(device.argument(core, "residuals"), sizeof(beat_t) * FMAP_BEATS));
        parameters = reinterpret_cast<beat_t *>(
            device.at(device.argument(core, "parameters"), sizeof(beat_t) * PARAMETER_MEMORY_BEATS));
        results = reinterpret_cast<beat_t *>(device.at(device.argument(core, "results"), sizeof(beat_t) * FMAP_BEATS));
        if (!maps || !residuals || !parameters || !results) return false;
    }
    std::lock_guard<std::mutex> held(engine_lock);
    hlsgen_engine(maps, residuals, parameters, results, first, count, identity);
    return true;
}

void run(core_t *core) {
    unsigned identity = 0;
    if (!execute(*core, identity)) return;
    const uint64_t other = core->device->fault("identity");
    std::lock_guard<std::mutex> held(core->lock);
    core->values[core->device->offsets["identity"]] = other ? unsigned(other) : identity;
    core->values[core->device->offsets["identity_ctrl"]] = 1;
    core->running = false;
    core->done = core->ready = true;
    if (core->ier & 1) core->isr |= 1;
    if (core->line() && !core->device->fault("no-interrupt")) core->interrupt.notify_all();
}

}  // namespace

// All that the library exports: the engines of two libraries in one process must not share their buffers.
#pragma GCC visibility push(default)
extern "C" {

// A device of `cores` engines; address_bits: 32 or 64, the width of its pointers.
void *hlsgen_sim_open(int cores, int address_bits) {
    if (cores < 1 || (address_bits != 32 && address_bits != 64)) return 0;
    device_t *device = new device_t;
    device->address_bits = address_bits;
    device->registers = register_file(address_bits);
    for (const named_t &r : device->registers) device->offsets[r.name] = r.offset;
    device->next = address_bits == 64 ? 0x800000000ull : 0x10000000ull;
    for (int i = 0; i < cores; i++) {
        device->cores.emplace_back(new core_t);
        device->cores.back()->device = device;
    }
    return device;
}

void hlsgen_sim_close(void *handle) {
    device_t *device = static_cast<device_t *>(handle);
    for (std::unique_ptr<core_t> &core : device->cores)
        if (core->thread.joinable()) core->thread.join();
    delete device;
}

// Name and offset of register `index`; 0 where there is none.
int hlsgen_sim_register(void *handle, int index, const char **name, unsigned *offset) {
    const device_t *device = static_cast<device_t *>(handle);
    if (index < 0 || index >= int(device->registers.size())) return 0;
    *name = device->registers[index].name.c_str();
    *offset = device->registers[index].offset;
    return 1;
}

unsigned hlsgen_sim_read(void *handle, int index, unsigned offset) {
    core_t &core = *static_cast<device_t *>(handle)->cores[index];
    std::lock_guard<std::mutex> held(core.lock);
    unsigned value = 0;
    switch (offset) {
        case CTRL:
            value = (core.running ? START : IDLE) | (core.done ? DONE : 0) | (core.ready ? READY : 0);
            core.done = core.ready = false;
            return value;
        case GIER: return core.enabled;
        case IP_IER: return core.ier;
        case IP_ISR: return core.isr;
        default: return device_t::value_of(core, offset);
    }
}

void hlsgen_sim_write(void *handle, int index, unsigned offset, unsigned value) {
    core_t &core = *static_cast<device_t *>(handle)->cores[index];
    std::unique_lock<std::mutex> held(core.lock);
    switch (offset) {
        case CTRL:
            if (!(value & START) || core.running) return;
            core.running = true;
            core.done = core.ready = false;
            held.unlock();
            if (core.thread.joinable()) core.thread.join();
            core.thread = std::thread(run, &core);
            return;
        case GIER: core.enabled = value & 1; return;
        case IP_IER: core.ier = value & 3; return;
        case IP_ISR: core.isr ^= value & 3; return;
        default: core.values[offset] = value;
    }
}

// Waits until the core's interrupt line is high, `seconds` at most; 1 where it is.
int hlsgen_sim_wait(void *handle, int index, double seconds) {
    core_t &core = *static_cast<device_t *>(handle)->cores[index];
    if (core.device->fault("no-interrupt")) {
        std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
        return 0;
    }
    std::unique_lock<std::mutex> held(core.lock);
    return core.interrupt.wait_for(held, std::chrono::duration<double>(seconds), [&core] { return core.line(); });
}

// The physical address of new memory, page aligned and filled with zeros; 0 where there is none left.
uint64_t hlsgen_sim_allocate(void *handle, uint64_t bytes) {
    device_t *device = static_cast<device_t *>(handle);
    const uint64_t limit = device->fault("memory");
    std::lock_guard<std::mutex> held(device->lock);
    uint64_t used = 0;
    for (const std::pair<const uint64_t, std::vector<char>> &block : device->memory) used += block.second.size();
    if (limit && used + bytes > limit) return 0;
    const uint64_t address = device->next;
    device->next += (bytes + 8191) / 4096 * 4096;  // a page between two buffers is nobody's
    device->memory[address].assign(bytes, 0);
    return address;
}

// Where the host sees the memory at a physical address; null where nothing is allocated there.
void *hlsgen_sim_memory(void *handle, uint64_t address) { return static_cast<device_t *>(handle)->at(address, 1); }

void hlsgen_sim_free(void *handle, uint64_t address) {
    device_t *device = static_cast<device_t *>(handle);
    std::lock_guard<std::mutex> held(device->lock);
    device->memory.erase(address);
}

// Injects a fault (value 0 takes it away): "never-done" (the engine starts and does not end), "no-interrupt" (the line stays
// low), "identity" (what the register reads), "memory" (bytes that can be allocated in all).
void hlsgen_sim_fault(void *handle, const char *name, uint64_t value) {
    device_t *device = static_cast<device_t *>(handle);
    std::lock_guard<std::mutex> held(device->lock);
    device->faults[name] = value;
}

}  // extern "C"
#pragma GCC visibility pop
