/* Reads: each entry, now and as long as it is held, is what the model says was durable then. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "tests/crash/sim_parts.h"

/* --- The order of keys --- */

static int compare_keys(const void *a, const void *b)
{
    return bytes_compare(sim_key(*(const unsigned *)a), sim_key(*(const unsigned *)b));
}

/* The key of this rank. */
static unsigned key_at(unsigned rank)
{
    static unsigned keys[MODEL_KEYS];
    if (keys[0] == keys[1]) {
        for (unsigned i = 0; i < MODEL_KEYS; i++) {
            keys[i] = i;
        }
        qsort(keys, MODEL_KEYS, sizeof keys[0], compare_keys);
    }
    return keys[rank];
}

/* --- Lookups and pins --- */

static bool value_is(unsigned key, const struct model_value *value, struct bytes bytes)
{
    return bytes.size == value->size && pattern_matches(sim_key(key), value->version, bytes);
}

/* What the entry is; *ret_wrong: its bytes are no version's of this key. */
static struct model_value value_of(unsigned key, const struct store_entry *entry, bool *ret_wrong)
{
    struct model_value value = {.size = entry->value.size, .number = entry->version.number};
    *ret_wrong = !pattern_version(sim_key(key), entry->value, &value.version);
    return value;
}

struct lookup {
    struct sim *sim;
    unsigned key;
    struct model_value value;
    struct sim_pin *pin; /* that is to keep the entry; NULL: none */
};

static void on_get(void *arg, enum err err, const struct store_entry *entry)
{
    struct lookup *lookup = arg;
    struct sim *sim = lookup->sim;
    const char *name = (const char *)sim_key(lookup->key).data;
    bool wrong = false;
    if (err != ERR_OK) { /* maps don't fail here, so nothing may */
        sim_violate(sim, "a get of %s failed: %s", name, err_name(err));
        return;
    }
    if (!entry) {
        return;
    }
    lookup->value = value_of(lookup->key, entry, &wrong);
    if (wrong || entry->version.epoch != sim->epoch) {
        sim_violate(sim, "a get of %s shows a wrong byte", name);
    }
    struct store_entry mine = *entry;
    if (lookup->pin) {
        *lookup->pin = (struct sim_pin){true, lookup->key, lookup->value, mine};
    } else {
        store_entry_release(&mine);
    }
}

static struct model_value look_up(struct sim *sim, unsigned key, struct sim_pin *pin)
{
    struct lookup lookup = {.sim = sim, .key = key, .pin = pin};
    store_get(sim->store, sim_key(key), on_get, &lookup);
    sim_note(sim, lookup.value.version);
    return lookup.value;
}

void sim_get(struct sim *sim, unsigned key, bool keep)
{
    struct sim_pin *pin = NULL;
    for (unsigned i = 0; i < SIM_PINS && keep && !pin; i++) {
        pin = sim->pins[i].in_use ? NULL : &sim->pins[i];
    }
    struct model_state state;
    model_state_at(sim->model, model_floor(sim->model), &state);
    sim->result->gets++;
    struct model_value value = look_up(sim, key, pin);
    if (!model_value_equal(value, state.keys[key])) {
        sim_violate(sim, "a get of %s shows version %llu, durable is %llu",
                    (const char *)sim_key(key).data, (unsigned long long)value.version,
                    (unsigned long long)state.keys[key].version);
    }
}

void sim_release_pin(struct sim *sim, struct sim_pin *pin)
{
    if (!pin->in_use) {
        return;
    }
    pin->in_use = false;
    if (!value_is(pin->key, &pin->value, pin->entry.value)) {
        sim_violate(sim, "a pinned value of %s changed", (const char *)sim_key(pin->key).data);
    }
    store_entry_release(&pin->entry);
}

/* --- Scans --- */

void sim_scan_open(struct sim *sim, struct sim_scan *scan, unsigned from, unsigned to, bool reverse,
                   bool keys_only)
{
    assert(!scan->scan);
    struct store_range range = {.reverse = reverse, .keys_only = keys_only};
    if (from > 0) {
        range.start = sim_key(key_at(from));
    }
    if (to < MODEL_KEYS) {
        range.end = sim_key(key_at(to));
    }
    *scan = (struct sim_scan){
        .sim = sim, .reverse = reverse, .keys_only = keys_only, .from = from, .to = to};
    model_state_at(sim->model, model_floor(sim->model), &scan->state);
    sim->result->scans++;
    if (store_scan_new(sim->store, &range, &scan->scan) != ERR_OK) {
        scan->scan = NULL;
        sim_violate(sim, "a scan could not be made");
    }
}

/* The next key that the snapshot has; false: none is left. */
static bool expect_next(struct sim_scan *scan, unsigned *ret_key)
{
    while (scan->from < scan->to) {
        unsigned key = key_at(scan->reverse ? --scan->to : scan->from++);
        if (scan->state.keys[key].version != 0) {
            *ret_key = key;
            return true;
        }
    }
    return false;
}

static bool shows(const struct sim_scan *scan, unsigned key, const struct store_entry *entry)
{
    const struct model_value *value = &scan->state.keys[key];
    return bytes_equal(sim_key(key), entry->key) && entry->value.size == value->size &&
           entry->version.number == value->number && entry->version.epoch == scan->sim->epoch &&
           (scan->keys_only ? !entry->value.data : value_is(key, value, entry->value));
}

static bool on_scanned(void *arg, const struct store_entry *entry)
{
    struct sim_scan *scan = arg;
    unsigned key = 0;
    sim_note(scan->sim, entry->version.number);
    if (!expect_next(scan, &key)) {
        sim_violate(scan->sim, "a scan shows more keys than there were");
        return false;
    }
    if (!shows(scan, key, entry)) {
        sim_violate(scan->sim, "a scan shows something else than %s as it was",
                    (const char *)sim_key(key).data);
        return false;
    }
    return --scan->left > 0;
}

static void on_scan_done(void *arg, enum err err, bool at_end)
{
    struct sim_scan *scan = arg;
    unsigned from = scan->from, to = scan->to, key;
    bool none_left = !expect_next(scan, &key);
    scan->from = from;
    scan->to = to;
    scan->at_end = at_end;
    if (err != ERR_OK) {
        sim_violate(scan->sim, "a scan failed: %s", err_name(err));
    } else if (at_end != none_left) {
        sim_violate(scan->sim, "a scan ends too %s", at_end ? "early" : "late");
    }
}

void sim_scan_walk(struct sim_scan *scan, unsigned n)
{
    scan->left = n;
    store_scan_run(scan->scan, on_scanned, on_scan_done, scan);
}

void sim_scan_close(struct sim_scan *scan)
{
    store_scan_free(scan->scan);
    scan->scan = NULL;
}

void sim_let_go(struct sim *sim)
{
    for (unsigned i = 0; i < SIM_PINS; i++) {
        sim_release_pin(sim, &sim->pins[i]);
    }
    for (unsigned i = 0; i < SIM_SCANS; i++) {
        sim_scan_close(&sim->scans[i]);
    }
}

/* --- All of it --- */

void sim_read_all(struct sim *sim, struct model_state *ret_state)
{
    for (unsigned key = 0; key < MODEL_KEYS; key++) {
        ret_state->keys[key] = look_up(sim, key, NULL);
    }
    struct sim_scan all = {.scan = NULL};
    sim_scan_open(sim, &all, 0, MODEL_KEYS, prng_chance(&sim->random, 50), false);
    all.state = *ret_state;
    if (all.scan) {
        sim_scan_walk(&all, UINT32_MAX);
        sim_scan_close(&all);
    }
}
