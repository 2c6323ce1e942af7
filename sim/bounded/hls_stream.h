// hls::stream as hardware has it: of a depth, so that a writer waits for room and a reader for elements.
//
// The test bench streams.cpp puts this folder before the vendor's headers. Every process of a DATAFLOW region is a
// coroutine; one that has to wait hands over to the next. When all wait, the region has deadlocked.
#ifndef HLSGEN_BOUNDED_STREAM_H
#define HLSGEN_BOUNDED_STREAM_H

#include <ucontext.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace bounded {

// What a process can wait for, whatever the stream's elements are. tokens: written in all; peak: the most that waited.
struct channel {
    std::string name;
    size_t depth, level;
    long long tokens, peak;
    channel(const std::string &called, size_t holds) : name(called), depth(holds), level(0), tokens(0), peak(0) {}
};

struct process {
    std::string name;
    std::function<void()> body;
    std::vector<char> stack;
    ucontext_t context;
    bool done;
    channel *waits;  // for room where `to_write`, else for an element; null where it can run
    bool to_write;
};

inline process *&running() {
    static process *now = 0;
    return now;
}
inline ucontext_t &scheduler() {
    static ucontext_t context;
    return context;
}

inline void wait_for(channel &c, bool to_write) {
    process &p = *running();
    p.waits = &c;
    p.to_write = to_write;
    swapcontext(&p.context, &scheduler());
}

inline void enter() {
    process &p = *running();
    p.body();
    p.done = true;
    swapcontext(&p.context, &scheduler());
}

// Processes that run at once until all have ended, or until none can go on.
class region {
    std::vector<std::unique_ptr<process> > processes;

public:
    void add(const std::string &name, const std::function<void()> &body) {
        std::unique_ptr<process> p(new process());
        p->name = name;
        p->body = body;
        p->stack.resize(1 << 20);
        p->done = false;
        p->waits = 0;
        processes.push_back(std::move(p));
    }

    // Whether all processes ended; where not, each one that waits says for what in `why`.
    bool run(std::string &why) {
        for (size_t i = 0; i < processes.size(); i++) {
            process &p = *processes[i];
            getcontext(&p.context);
            p.context.uc_stack.ss_sp = &p.stack[0];
            p.context.uc_stack.ss_size = p.stack.size();
            p.context.uc_link = 0;
            makecontext(&p.context, enter, 0);
        }
        for (;;) {
            bool moved = false, all_done = true;
            for (size_t i = 0; i < processes.size(); i++) {
                process &p = *processes[i];
                if (p.done) continue;
                all_done = false;
                if (p.waits && (p.to_write ? p.waits->level >= p.waits->depth : p.waits->level == 0)) continue;
                p.waits = 0;
                running() = &p;
                swapcontext(&scheduler(), &p.context);
                moved = true;
            }
            if (all_done) return true;
            if (moved) continue;
            for (size_t i = 0; i < processes.size(); i++) {
                const process &p = *processes[i];
                if (p.done) continue;
                why += (why.empty() ? "" : ", ") + p.name + " waits " +
                       (p.to_write ? "for room in " : "for an element of ") + p.waits->name + " (depth " +
                       std::to_string(p.waits->depth) + ")";
            }
            return false;
        }
    }
};

}  // namespace bounded

namespace hls {

template <class T>
class stream : public bounded::channel {
    std::vector<T> ring;
    size_t first;

public:
    stream(const char *called, size_t holds) : channel(called, holds), ring(holds), first(0) {}
    stream(const stream &) = delete;
    stream &operator=(const stream &) = delete;

    T read() {
        while (level == 0) bounded::wait_for(*this, false);
        const T value = ring[first];
        first = first + 1 == depth ? 0 : first + 1;
        level--;
        return value;
    }

    void write(const T &value) {
        while (level >= depth) bounded::wait_for(*this, true);
        const size_t at = first + level;
        ring[at < depth ? at : at - depth] = value;
        level++;
        tokens++;
        if ((long long)level > peak) peak = (long long)level;
    }

    bool empty() const { return level == 0; }
};

}  // namespace hls

#endif
