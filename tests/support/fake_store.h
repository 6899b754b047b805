/*
 * fake_store.h - a store in memory that keeps the contract of store.h and does as it is told: for
 * tests of what lies above the store.
 *
 * A test program lists fake_store.c among its sources; its functions then take the place of the
 * engine's. It never loses anything but at the end of the program, and it counts what it lent out.
 *
 * Threads:   any thread; the knobs before requests are under way.
 * Ownership: fake_store_free() checks that everything lent out came back.
 * Errors:    those that the knobs say.
 */
#ifndef VARVE_TESTS_SUPPORT_FAKE_STORE_H
#define VARVE_TESTS_SUPPORT_FAKE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/store.h"

struct fake_knobs {
    /* No value is in memory, and callbacks come from a thread of the store, after the call has
     * returned… */
    bool later;
    /* …and with this not before fake_store_let_go(). */
    bool hold;
    enum err get_err, admission_err, put_err, resize_err, delete_err, commit_err, scan_err,
        upkeep_err;
    enum store_state state;
    uint64_t modified_ms; /* of what is put from now on; 0: the clock */
};

struct store *fake_store_new(void);
void fake_store_free(struct store *store);

/* Turns the knobs, between requests. */
void fake_store_set(struct store *store, struct fake_knobs knobs);

/* Lets the callbacks that are held go, those of now and those to come. */
void fake_store_let_go(struct store *store);

/* Callbacks that are held. */
size_t fake_store_held(struct store *store);

/* Entries, writes and scans that are lent out. */
size_t fake_store_lent(struct store *store);

/* Writes that were admitted and neither committed nor given back. */
size_t fake_store_writes_open(struct store *store);

/* Puts without HTTP. */
struct store_version fake_store_put(struct store *store, struct bytes key, struct bytes value);

#endif
