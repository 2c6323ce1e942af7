// A stand-in for libxrt_coreutil on the simulated device (sim/sim_device.cpp), opened at run time.
#include <dlfcn.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <thread>
#include <vector>

#include "xrt/xrt_kernel.h"

namespace xrt {

namespace {

const int MAX_CORES = 4, POINTERS = 4, ARGUMENTS = 7;

template <typename F>
F function(void *library, const char *name) {
    void *found = dlsym(library, name);
    if (!found) throw std::runtime_error(std::string("no ") + name);
    F typed;
    std::memcpy(&typed, &found, sizeof typed);
    return typed;
}

}  // namespace

struct simulated {
    void *library, *device;
    unsigned (*read)(void *, int, unsigned);
    void (*write)(void *, int, unsigned, unsigned);
    int (*wait)(void *, int, double);
    uint64_t (*allocate)(void *, uint64_t);
    void *(*memory)(void *, uint64_t);
    void (*free)(void *, uint64_t);
    bool loaded = false;

    simulated() {
        const char *path = std::getenv("HLSGEN_SIM"), *fault = std::getenv("HLSGEN_SIM_FAULT");
        library = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : 0;
        if (!library) throw std::runtime_error("HLSGEN_SIM does not name the simulated device");
        read = function<decltype(read)>(library, "hlsgen_sim_read");
        write = function<decltype(write)>(library, "hlsgen_sim_write");
        wait = function<decltype(wait)>(library, "hlsgen_sim_wait");
        allocate = function<decltype(allocate)>(library, "hlsgen_sim_allocate");
        memory = function<decltype(memory)>(library, "hlsgen_sim_memory");
        free = function<decltype(free)>(library, "hlsgen_sim_free");
        device = function<void *(*)(int, int)>(library, "hlsgen_sim_open")(MAX_CORES, 64);
        if (fault) {
            const std::string text = fault;
            const size_t split = text.find('=');
            function<void (*)(void *, const char *, uint64_t)>(library, "hlsgen_sim_fault")(
                device, text.substr(0, split).c_str(), std::stoull(text.substr(split + 1), 0, 0));
        }
    }
    ~simulated() { function<void (*)(void *)>(library, "hlsgen_sim_close")(device); }
};

device::device(unsigned int index) {
    if (index) throw std::runtime_error("Could not open device with index '" + std::to_string(index) + "'");
    handle = std::make_shared<simulated>();
}

uuid device::load_xclbin(const std::string &filename) {
    if (!std::ifstream(filename)) throw std::runtime_error("Failed to open xclbin file '" + filename + "'");
    handle->loaded = true;
    return {filename};
}

struct bo_impl {
    std::shared_ptr<simulated> on;
    uint64_t address;
    std::vector<char> host;
    memory_group group;
    ~bo_impl() { on->free(on->device, address); }
};

bo::bo(const xrt::device &device, size_t size, memory_group group) {
    const uint64_t address = device.handle->allocate(device.handle->device, size);
    if (!address) throw std::runtime_error("failed to allocate bo: Cannot allocate memory");
    held.reset(new bo_impl{device.handle, address, std::vector<char>(size), group});
}

void bo::sync(xclBOSyncDirection direction, size_t size, size_t offset) {
    if (offset + size > held->host.size()) throw std::runtime_error("invalid size or offset in sync");
    char *card = static_cast<char *>(held->on->memory(held->on->device, held->address)) + offset;
    if (direction == XCL_BO_SYNC_BO_TO_DEVICE)
        std::memcpy(card, &held->host[offset], size);
    else
        std::memcpy(&held->host[offset], card, size);
}

void bo::sync(xclBOSyncDirection direction) { sync(direction, held->host.size(), 0); }
memory_group bo::get_memory_group() const { return held->group; }
uint64_t bo::address() const { return held->address; }
size_t bo::size() const { return held->host.size(); }
void *bo::map() { return &held->host[0]; }

kernel::kernel(const xrt::device &device, const xrt::uuid &, const std::string &name, cu_access_mode given)
    : handle(device.handle), mode(given) {
    const std::string prefix = "hlsgen_engine:{hlsgen_engine_";
    if (!handle->loaded) throw std::runtime_error("No xclbin is loaded");
    if (name.compare(0, prefix.size(), prefix) || name.back() != '}')
        throw std::runtime_error("No compute units matching '" + name + "'");
    core = std::stoi(name.substr(prefix.size()));
    if (core >= MAX_CORES) throw std::runtime_error("No compute units matching '" + name + "'");
}

uint32_t kernel::offset(int argno) const {
    if (argno < 0 || argno >= ARGUMENTS) throw std::runtime_error("No such kernel argument " + std::to_string(argno));
    return argno < POINTERS ? 0x10 + 12 * argno : 0x10 + 12 * POINTERS + 8 * (argno - POINTERS);
}

int kernel::group_id(int argno) const {
    if (argno < 0 || argno >= POINTERS) throw std::runtime_error("Argument " + std::to_string(argno) + " has no memory group");
    return 2 * core + (argno == 2);  // a core's weights lie in a bank of their own
}

uint32_t kernel::read_register(uint32_t at) const {
    if (mode != cu_access_mode::exclusive) throw std::runtime_error("Cannot read or write kernel with shared access");
    if (at % 4 || at >= 0x1000) throw std::runtime_error("Cannot read or write outside kernel register space");
    return handle->read(handle->device, core, at);
}

run::run(const kernel &of) : on(of) {}

void run::set_arg(int index, const xrt::bo &argument) {
    if (index < 0 || index >= POINTERS) throw std::runtime_error("Bad argument index '" + std::to_string(index) + "'");
    if (argument.get_memory_group() != memory_group(on.group_id(index)))
        throw std::runtime_error("bo of another memory bank than argument " + std::to_string(index) + " is connected to");
    registers[on.offset(index)] = uint32_t(argument.address());
    registers[on.offset(index) + 4] = uint32_t(argument.address() >> 32);
}

void run::set_arg(int index, int argument) {
    if (index < POINTERS) throw std::runtime_error("Bad argument index '" + std::to_string(index) + "'");
    registers[on.offset(index)] = uint32_t(argument);
}

void run::start() {
    for (const std::pair<const uint32_t, uint32_t> &r : registers) on.handle->write(on.handle->device, on.core, r.first, r.second);
    const unsigned pending = on.handle->read(on.handle->device, on.core, 0x0c);
    on.handle->write(on.handle->device, on.core, 0x0c, pending);
    on.handle->write(on.handle->device, on.core, 0x04, 1);
    on.handle->write(on.handle->device, on.core, 0x08, 1);
    on.handle->write(on.handle->device, on.core, 0x00, 1);
}

ert_cmd_state run::wait(const std::chrono::milliseconds &timeout) const {
    const double seconds = timeout.count() ? timeout.count() / 1000.0 : 1e6;
    return on.handle->wait(on.handle->device, on.core, seconds) ? ERT_CMD_STATE_COMPLETED : ERT_CMD_STATE_TIMEOUT;
}

}  // namespace xrt
