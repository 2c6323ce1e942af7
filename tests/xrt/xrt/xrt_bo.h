// A stand-in for XRT's buffer objects: see xrt_device.h. The card's memory and the host's copy are different bytes.
#ifndef STANDIN_XRT_BO_H
#define STANDIN_XRT_BO_H

#include <cstddef>

#include "xrt/xrt_device.h"

enum xclBOSyncDirection { XCL_BO_SYNC_BO_TO_DEVICE = 0, XCL_BO_SYNC_BO_FROM_DEVICE = 1 };

namespace xrt {

using memory_group = uint32_t;
struct bo_impl;

class bo {
public:
    bo() = default;
    bo(const xrt::device &device, size_t size, memory_group group);
    void sync(xclBOSyncDirection direction, size_t size, size_t offset);
    void sync(xclBOSyncDirection direction);
    memory_group get_memory_group() const;
    uint64_t address() const;
    size_t size() const;
    void *map();
    template <typename MapType>
    MapType map() {
        return reinterpret_cast<MapType>(map());
    }

private:
    std::shared_ptr<bo_impl> held;
};

}  // namespace xrt

#endif
