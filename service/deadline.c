#include "service/deadline.h"

#include <string.h>

static bool header_section_late(struct deadline *deadline, const struct deadline_limits *limits,
                                uint64_t now_ms)
{
    if (!deadline->in_headers) {
        deadline->in_headers = true;
        deadline->since_ms = now_ms;
    }
    return now_ms - deadline->since_ms >= limits->header_ms;
}

static void window_start(struct deadline *deadline, const struct deadline_limits *limits,
                         uint64_t now_ms, uint64_t moved)
{
    deadline->slots = 1;
    deadline->marks[0] = moved;
    deadline->next_mark_ms = now_ms + limits->window_ms / DEADLINE_SLOTS;
}

/* A look that comes late makes its slot longer, never shorter: it errs to the client's side. */
static bool window_too_slow(struct deadline *deadline, const struct deadline_limits *limits,
                            uint64_t now_ms, uint64_t moved)
{
    if (now_ms < deadline->next_mark_ms) {
        return false;
    }
    deadline->next_mark_ms = now_ms + limits->window_ms / DEADLINE_SLOTS;
    if (deadline->slots < DEADLINE_SLOTS) {
        deadline->marks[deadline->slots++] = moved;
        return false;
    }
    uint64_t window_began_at = deadline->marks[0];
    memmove(deadline->marks, deadline->marks + 1, (DEADLINE_SLOTS - 1) * sizeof deadline->marks[0]);
    deadline->marks[DEADLINE_SLOTS - 1] = moved;
    return moved - window_began_at < limits->window_bytes;
}

bool deadline_check(struct deadline *deadline, const struct deadline_limits *limits, uint32_t stamp,
                    uint64_t now_ms, uint64_t received, uint64_t sent)
{
    enum deadline_phase phase = deadline_phase(stamp);
    bool moved_on = stamp != deadline->stamp;
    if (deadline_requests(stamp) != deadline_requests(deadline->stamp)) {
        deadline->in_headers = false;
        deadline->idle_received = received;
    }
    deadline->stamp = stamp;
    switch (phase) {
    case PHASE_IDLE:
        /* More bytes but no request line: it is on its way. */
        return received != deadline->idle_received && header_section_late(deadline, limits, now_ms);
    case PHASE_HEADERS:
        return header_section_late(deadline, limits, now_ms);
    case PHASE_BODY:
    case PHASE_ANSWER: {
        uint64_t moved = phase == PHASE_BODY ? received : sent;
        if (moved_on) {
            window_start(deadline, limits, now_ms, moved);
            return false;
        }
        return window_too_slow(deadline, limits, now_ms, moved);
    }
    case PHASE_WAITING:
        return false;
    }
    return false;
}
