// The accelerator on an Alveo card, through XRT's native interface (UG1393; XRT 2020.2 and newer).
//
// One xrt::kernel a core, opened exclusively because the build identity is read from a register. Each core has feature maps and
// weights of its own, in the memory banks that link.cfg gives it. A kernel that does not finish, a wrong build, and a card that refuses are different exceptions.
#ifndef HLSGEN_XRT_ACCELERATOR_H
#define HLSGEN_XRT_ACCELERATOR_H

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "xrt/xrt_bo.h"
#include "xrt/xrt_device.h"
#include "xrt/xrt_kernel.h"

namespace hlsgen {

// A kernel was started and did not finish within the time-out.
struct Hang : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// The binary on the card is of another build than the weights.
struct Mismatch : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Arguments of the kernel, in order.
enum Argument { FEATURE_MAPS, RESIDUALS, PARAMETERS, RESULTS, FIRST, COUNT, IDENTITY_REGISTER };

class Card {
public:
    // Loads `binary` (.xclbin) on card number `index` and opens its kernels `top`_0 ... as `cores` cores.
    Card(unsigned index, const std::string &binary, const std::string &top, int cores);

    int cores() const { return int(kernels_.size()); }
    // Memory in the bank that the core's port for `argument` reaches.
    xrt::bo allocate(int core, Argument argument, size_t bytes);
    // Runs ops [first, first + count) on a core and waits. Throws Hang after `milliseconds`.
    void call(int core, const xrt::bo &maps, const xrt::bo &parameters, int first, int count, unsigned milliseconds);
    // A call without ops; after it the core has written its build identity.
    void call_empty(int core, unsigned milliseconds);
    // The build identity that the core wrote in its latest call.
    uint32_t identity(int core) const;

private:
    void wait(xrt::run &run, int core, int first, int count, unsigned milliseconds);

    xrt::device device_;
    std::vector<xrt::kernel> kernels_;
};

}  // namespace hlsgen

#endif
