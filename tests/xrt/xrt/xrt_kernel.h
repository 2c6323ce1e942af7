// A stand-in for XRT's kernels and runs: see xrt_device.h.
#ifndef STANDIN_XRT_KERNEL_H
#define STANDIN_XRT_KERNEL_H

#include <chrono>
#include <map>

#include "xrt/xrt_bo.h"
#include "xrt/xrt_device.h"

enum ert_cmd_state {
    ERT_CMD_STATE_NEW = 1,
    ERT_CMD_STATE_QUEUED = 2,
    ERT_CMD_STATE_RUNNING = 3,
    ERT_CMD_STATE_COMPLETED = 4,
    ERT_CMD_STATE_ERROR = 5,
    ERT_CMD_STATE_ABORT = 6,
    ERT_CMD_STATE_SUBMITTED = 7,
    ERT_CMD_STATE_TIMEOUT = 8
};

namespace xrt {

class kernel {
public:
    enum class cu_access_mode : uint8_t { exclusive = 0, shared = 1, none = 2 };
    kernel() = default;
    kernel(const xrt::device &device, const xrt::uuid &id, const std::string &name,
           cu_access_mode mode = cu_access_mode::shared);
    int group_id(int argno) const;
    uint32_t offset(int argno) const;
    uint32_t read_register(uint32_t offset) const;

    std::shared_ptr<simulated> handle;
    int core = 0;
    cu_access_mode mode = cu_access_mode::shared;
};

class run {
public:
    explicit run(const kernel &of);
    void set_arg(int index, const xrt::bo &argument);
    void set_arg(int index, int argument);
    void start();
    ert_cmd_state wait(const std::chrono::milliseconds &timeout = std::chrono::milliseconds{0}) const;

private:
    kernel on;
    std::map<uint32_t, uint32_t> registers;
};

}  // namespace xrt

#endif
