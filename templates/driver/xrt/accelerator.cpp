// The accelerator on an Alveo card: see accelerator.h.
#include "accelerator.h"

#include <chrono>

namespace hlsgen {

Card::Card(unsigned index, const std::string &binary, const std::string &top, int cores) : device_(index) {
    const xrt::uuid id = device_.load_xclbin(binary);
    for (int i = 0; i < cores; i++) {
        const std::string instance = top + ":{" + top + "_" + std::to_string(i) + "}";
        kernels_.emplace_back(device_, id, instance, xrt::kernel::cu_access_mode::exclusive);
    }
}

xrt::bo Card::allocate(int core, Argument argument, size_t bytes) {
    return xrt::bo(device_, bytes, kernels_[core].group_id(argument));
}

void Card::call(int core, const xrt::bo &maps, const xrt::bo &parameters, int first, int count, unsigned milliseconds) {
    xrt::run run(kernels_[core]);
    run.set_arg(FEATURE_MAPS, maps);
    run.set_arg(RESIDUALS, maps);
    run.set_arg(PARAMETERS, parameters);
    run.set_arg(RESULTS, maps);
    run.set_arg(FIRST, first);
    run.set_arg(COUNT, count);
    run.start();
    wait(run, core, first, count, milliseconds);
}

void Card::call_empty(int core, unsigned milliseconds) {
    xrt::run run(kernels_[core]);
    run.set_arg(FIRST, 0);
    run.set_arg(COUNT, 0);
    run.start();
    wait(run, core, 0, 0, milliseconds);
}

void Card::wait(xrt::run &run, int core, int first, int count, unsigned milliseconds) {
    // Older XRT returns the state that the command is in, newer ERT_CMD_STATE_TIMEOUT: only completed is completed.
    const ert_cmd_state state = run.wait(std::chrono::milliseconds(milliseconds));
    if (state != ERT_CMD_STATE_COMPLETED)
        throw Hang("core " + std::to_string(core) + " did not finish ops " + std::to_string(first) + " to " +
                   std::to_string(first + count - 1) + " within " + std::to_string(milliseconds) +
                   " ms (command state " + std::to_string(int(state)) + ")");
}

uint32_t Card::identity(int core) const {
    return kernels_[core].read_register(kernels_[core].offset(IDENTITY_REGISTER));
}

}  // namespace hlsgen
