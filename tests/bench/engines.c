/* engines.c - which engines there are. */
#include "tests/bench/engines.h"

#include <string.h>

#include "tests/bench/measure.h"

static const struct engine *const engines[] = {
    &engine_varve,
#ifdef HAVE_LEVELDB
    &engine_leveldb,
#endif
#ifdef HAVE_ROCKSDB
    &engine_rocksdb,
#endif
#ifdef HAVE_LMDB
    &engine_lmdb,
#endif
};

enum { ENGINES = sizeof engines / sizeof engines[0] };

const struct engine *const *engines_chosen(const char *list, size_t *ret_n)
{
    static const struct engine *chosen[ENGINES];
    size_t n = 0, named = 1;
    for (size_t i = 0; i < ENGINES; i++) {
        if (measure_wanted(list, engines[i]->name)) {
            chosen[n++] = engines[i];
        }
    }
    for (const char *at = list; at && *at != '\0'; at++) {
        named += *at == ',';
    }
    measure_check(!list || n == named, list ? list : "", "has an engine that isn't there");
    *ret_n = n;
    return chosen;
}
