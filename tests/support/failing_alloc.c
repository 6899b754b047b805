/* failing_alloc.c - the linker (--wrap) sends allocations here. */
#include "tests/support/failing_alloc.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

static _Atomic bool armed, others_only_;
static _Atomic uint64_t seen;
static uint64_t first, last; /* that fail */
static pthread_t owner;
static _Thread_local unsigned spared; /* within so many helpers */

void failing_alloc_arm(uint64_t nth, uint64_t n, bool others_only)
{
    first = nth;
    last = nth + n - 1;
    owner = pthread_self();
    atomic_store(&others_only_, others_only);
    atomic_store(&seen, 0);
    atomic_store(&armed, true);
}

uint64_t failing_alloc_disarm(void)
{
    atomic_store(&armed, false);
    return atomic_load(&seen);
}

static bool fails(void)
{
    if (!atomic_load(&armed) || spared > 0 ||
        (atomic_load(&others_only_) && pthread_equal(pthread_self(), owner))) {
        return false;
    }
    uint64_t n = atomic_fetch_add(&seen, 1) + 1;
    if (n < first || n > last) {
        return false;
    }
    errno = ENOMEM;
    return true;
}

/* Each is called in place of the function that it is named after. */
#define WRAP_ALLOC(name, parameters, arguments)          \
    void *__real_##name parameters;                      \
    void *__wrap_##name parameters;                      \
    void *__wrap_##name parameters                       \
    {                                                    \
        return fails() ? NULL : __real_##name arguments; \
    }

WRAP_ALLOC(malloc, (size_t size), (size))
WRAP_ALLOC(calloc, (size_t n, size_t size), (n, size))
WRAP_ALLOC(realloc, (void *old, size_t size), (old, size))
WRAP_ALLOC(reallocarray, (void *old, size_t n, size_t size), (old, n, size))
WRAP_ALLOC(aligned_alloc, (size_t alignment, size_t size), (alignment, size))
WRAP_ALLOC(strdup, (const char *text), (text))

#define WRAP_HELPER(type, name, parameters, arguments) \
    type __real_##name parameters;                     \
    type __wrap_##name parameters;                     \
    type __wrap_##name parameters                      \
    {                                                  \
        spared++;                                      \
        type memory = __real_##name arguments;         \
        spared--;                                      \
        return memory;                                 \
    }

WRAP_HELPER(void *, test_alloc, (size_t size), (size))
WRAP_HELPER(void *, test_grow, (void *old, size_t old_size, size_t size), (old, old_size, size))
WRAP_HELPER(char *, test_strdup, (const char *text), (text))
