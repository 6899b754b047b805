/*
 * sigbus.h - a guard around reads from a mapped file, whose pages may be unreadable.
 *
 * A page that can't be read (I/O error, a file cut short by somebody) raises SIGBUS in the thread
 * that touches it. Under the guard the thread jumps back instead:
 *
 *     struct sigbus_guard guard;
 *     if (sigbus_guard_enter(&guard, map, size)) {      // false the second time it "returns"
 *         ... read from the map; no lock, no allocation, no return, no RCU section opened ...
 *         sigbus_guard_leave(&guard);
 *     } else {
 *         // a read of [map, map + size) failed; the guard is left already
 *     }
 *
 * Guards nest; the innermost whose range has the address is taken, and those inside it are
 * abandoned with it. Pages fail as a whole, so a range counts up to the edges of its pages. A fault
 * outside every range of the thread ends the process as it would without the guard. Locals that
 * change under the guard and are read after a jump must be volatile, as the C standard says.
 *
 * Threads:   any thread. sigbus_install() before the first guard.
 * Ownership: the guard lies on the caller's stack until it is left.
 * Errors:    none.
 */
#ifndef VARVE_STORE_BASE_SIGBUS_H
#define VARVE_STORE_BASE_SIGBUS_H

#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>

struct sigbus_guard {
    sigjmp_buf jump;
    const void *data;
    size_t size;
    struct sigbus_guard *outer;
};

/* Sets the process's handler, unless it is in place already; a handler that was there before gets
 * the faults that no guard expects. Any thread. */
void sigbus_install(void);

/* Internal halves of the macro. */
void sigbus_guard_push(struct sigbus_guard *guard, const void *data, size_t size);

/* True after arming the guard; false when a fault in its range came back here. sigsetjmp must be
 * called in the caller's frame, hence a macro. The mask isn't saved (that would be a system call
 * each time): the handler restores it. */
#define sigbus_guard_enter(guard, data, size) \
    (sigbus_guard_push((guard), (data), (size)), sigsetjmp((guard)->jump, 0) == 0)

void sigbus_guard_leave(struct sigbus_guard *guard);

#endif
