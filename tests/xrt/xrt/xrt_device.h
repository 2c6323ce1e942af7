// A stand-in for XRT's native interface on the simulated device: what the C++ driver uses of it, with XRT's signatures.
//
// It refuses what XRT refuses: a binary that is no file, a kernel name without an instance, an argument that does not exist, a
// register outside the kernel's, register reads without exclusive access, a sync beyond the buffer, a buffer in a
// memory bank that the argument is not connected to. HLSGEN_SIM names the simulated device's library, HLSGEN_SIM_FAULT a fault of it (NAME=VALUE).
#ifndef STANDIN_XRT_DEVICE_H
#define STANDIN_XRT_DEVICE_H

#include <cstdint>
#include <memory>
#include <string>

namespace xrt {

class uuid {
public:
    std::string text;
};

struct simulated;  // the simulated device, shared by all that refer to it

class device {
public:
    device() = default;
    explicit device(unsigned int index);
    uuid load_xclbin(const std::string &filename);
    std::shared_ptr<simulated> handle;
};

}  // namespace xrt

#endif
