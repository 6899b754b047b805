/* Writes: what they ask for, what the model decides at the same moment as the store, and whether
 * the store's answer is that. */
#include <assert.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "store/lsm/commit.h"
#include "tests/crash/sim_parts.h"

struct bytes sim_key(unsigned key)
{
    static char names[MODEL_KEYS][64];
    if (names[key][0] == '\0') {
        snprintf(names[key], sizeof names[key], "%s/%02u", key % 3 ? "key" : "a-longer-prefix",
                 key);
    }
    return bytes_of_text(names[key]);
}

/* --- Admission --- */

/* What a write may be refused for, and only then. */
static bool may_refuse(const struct sim *sim, enum err err)
{
    return (err == ERR_CLOSED && sim->ending) ||
           (err == ERR_READ_ONLY && (sim->poisoned || sim->manifest_failed)) ||
           (err == ERR_NO_SPACE && sim->space_failed &&
            store_state(sim->store) == STORE_NO_SPACE) ||
           err == ERR_BUSY; /* after ten seconds of real time, if the machine stood still */
}

static void on_ready(void *arg, enum err err, struct store_write *write)
{
    struct sim_pending *pending = arg;
    struct sim *sim = pending->sim;
    assert(pending->phase == SIM_WAITING);
    sim_note(sim, (uint64_t)err);
    pending->phase = err == ERR_OK ? SIM_ADMITTED : SIM_FREE;
    pending->write = write;
    if (err == ERR_OK) {
        return;
    }
    sim->result->refusals++;
    if (!may_refuse(sim, err)) {
        sim_violate(sim, "a write was refused without reason: %s", err_name(err));
    }
}

bool sim_write(struct sim *sim, const struct sim_plan *plan)
{
    struct sim_pending *pending = NULL;
    for (unsigned i = 0; i < SIM_PENDING_MAX && !pending; i++) {
        pending = sim->pending[i].phase == SIM_FREE ? &sim->pending[i] : NULL;
    }
    if (!pending) {
        return false;
    }
    *pending = (struct sim_pending){.sim = sim, .phase = SIM_WAITING, .plan = *plan};
    struct store_write_size size = {.ops = plan->n, .deletes_only = true};
    for (unsigned i = 0; i < plan->n; i++) {
        size.bytes += 64 + plan->ops[i].size;
        size.deletes_only = size.deletes_only && plan->ops[i].is_delete;
    }
    store_write_new(sim->store, &size, on_ready, pending);
    return true;
}

/* --- What the model says --- */

static bool condition_holds(const struct sim_pending *pending, bool exists, uint64_t number)
{
    switch (pending->plan.condition) {
    case SIM_IF_ABSENT:
        return !exists;
    case SIM_IF_PRESENT:
        return exists;
    case SIM_IF_VERSION:
        return exists && number == pending->expected;
    case SIM_ALWAYS:
        break;
    }
    return true;
}

/* The store decides on the newest claimed state, which is that of the model's whole list. */
static void decide(struct sim_pending *pending)
{
    struct model *model = pending->sim->model;
    struct model_state state;
    model_state_at(model, model_issued(model), &state);
    pending->fails = pending->changes = false;
    pending->seen = 0;
    for (unsigned i = 0; i < pending->plan.n && !pending->fails; i++) {
        const struct sim_op *op = &pending->plan.ops[i];
        const struct model_value *met = &state.keys[op->key];
        size_t touched = model_last_touch(model, op->key);
        pending->seen = touched > pending->seen ? touched : pending->seen;
        pending->met[i] = *met;
        pending->changes = pending->changes || !op->is_delete || met->version != 0;
        pending->fails = i == pending->plan.conditional &&
                         !condition_holds(pending, met->version != 0, met->number);
    }
    pending->changes = pending->changes && !pending->fails;
}

/* The write has its numbers: from now on it is in the order of all writes. */
static void claim(struct sim_pending *pending)
{
    struct sim *sim = pending->sim;
    if (!pending->changes) {
        sim_violate(sim, "a write that changes nothing claimed numbers");
        return;
    }
    model_write(sim->model);
    pending->prefix = model_issued(sim->model);
    for (unsigned i = 0; i < pending->plan.n; i++) {
        const struct sim_op *op = &pending->plan.ops[i];
        if (op->is_delete && pending->met[i].version == 0) {
            continue;
        }
        struct model_value value = {.version = op->is_delete ? 0 : pending->versions[i],
                                    .size = op->size};
        model_change(sim->model, op->key, &value);
        pending->numbers[i] = value.number;
    }
}

void sim_on_stop(struct store_write *write, enum engine_stop at)
{
    struct sim_pending *pending = write->done_arg;
    struct sim *sim = pending->sim;
    if (at == ENGINE_STOP_DECIDED) {
        decide(pending);
    } else if (at == ENGINE_STOP_CLAIMED) {
        claim(pending);
    }
    if (!sim->stopped && prng_chance(&sim->random, sim->stop_percent)) {
        sim->stopped = true;
        sim->result->stops++;
        sim_act_while_stopped(sim);
        sim->stopped = false;
    }
}

/* --- What the store says --- */

static void check_met(struct sim_pending *pending, const struct store_written *written)
{
    struct sim *sim = pending->sim;
    size_t n = written->condition_failed ? written->failed_op + 1 : written->n_ops;
    for (size_t i = 0; i < n; i++) {
        const struct store_current *before = &written->ops[i].before;
        const struct model_value *met = &pending->met[i];
        if (before->exists != (met->version != 0) ||
            (before->exists &&
             (before->version.epoch != sim->epoch || before->version.number != met->number))) {
            sim_violate(sim, "a write met number %llu of %s, but the newest is %llu",
                        (unsigned long long)(before->exists ? before->version.number : 0),
                        (const char *)sim_key(pending->plan.ops[i].key).data,
                        (unsigned long long)met->number);
        }
        if (pending->changes && pending->numbers[i] != 0 &&
            written->ops[i].version.number != pending->numbers[i]) {
            sim_violate(sim, "a write got number %llu instead of %llu",
                        (unsigned long long)written->ops[i].version.number,
                        (unsigned long long)pending->numbers[i]);
        }
    }
}

static void check_done(struct sim_pending *pending, const struct store_written *written)
{
    struct sim *sim = pending->sim;
    if (written->condition_failed != pending->fails ||
        (pending->fails && written->failed_op != pending->plan.conditional)) {
        sim_violate(sim, "a condition was decided wrongly: failed %d, expected %d",
                    written->condition_failed, pending->fails);
        return;
    }
    check_met(pending, written);
    if (!pending->changes) {
        model_see(sim->model, pending->seen);
    } else if (sim->poisoned) {
        sim_violate(sim, "a write was acknowledged after the log had failed");
    } else {
        model_ack(sim->model, pending->prefix);
    }
    sim->result->failed_conditions += written->condition_failed;
}

/* What a committed write may end with. */
static bool may_fail(const struct sim *sim, enum err err)
{
    return (err == ERR_OUTCOME_UNKNOWN && (sim->poisoned || sim->abandoned)) ||
           (err == ERR_READ_ONLY && (sim->poisoned || sim->manifest_failed));
}

static void on_written(void *arg, enum err err, const struct store_written *written)
{
    struct sim_pending *pending = arg;
    struct sim *sim = pending->sim;
    assert(pending->phase == SIM_COMMITTED);
    pending->phase = SIM_FREE;
    sim_note(sim, (uint64_t)err);
    sim->result->unknown_outcomes += err == ERR_OUTCOME_UNKNOWN;
    if (err == ERR_OK) {
        check_done(pending, written);
    } else if (!may_fail(sim, err)) {
        sim_violate(sim, "a write failed without reason: %s", err_name(err));
    }
}

/* --- Building and committing --- */

static bool condition(void *arg, const struct store_current *current)
{
    return condition_holds(arg, current->exists, current->version.number);
}

static void add_put(struct sim_pending *pending, unsigned i)
{
    struct sim *sim = pending->sim;
    const struct sim_plan *plan = &pending->plan;
    const struct sim_op *op = &plan->ops[i];
    bool resized = plan->resized && i + 1 == plan->n;
    struct store_put put = {.key = sim_key(op->key),
                            .value_bytes = resized ? op->size / 2 : op->size};
    void *value;
    pending->versions[i] = model_next_version(sim->model);
    enum err err = store_write_put(pending->write, &put, &value);
    if (err == ERR_OK && resized) {
        err = store_write_resize(pending->write, op->size, &value);
    }
    if (err == ERR_OK) {
        pattern_fill(put.key, pending->versions[i], value, op->size);
    } else {
        sim_violate(sim, "a put could not be added: %s", err_name(err));
    }
}

static void build(struct sim_pending *pending)
{
    struct sim *sim = pending->sim;
    const struct sim_plan *plan = &pending->plan;
    struct model_state state;
    model_state_at(sim->model, model_issued(sim->model), &state);
    pending->expected = state.keys[plan->ops[plan->conditional].key].number - plan->stale;
    for (unsigned i = 0; i < plan->n; i++) {
        if (!plan->ops[i].is_delete) {
            add_put(pending, i);
        } else if (store_write_delete(pending->write, sim_key(plan->ops[i].key)) != ERR_OK) {
            sim_violate(sim, "a delete could not be added");
        }
        if (i == plan->conditional && plan->condition != SIM_ALWAYS) {
            store_write_condition(pending->write, condition, pending);
        }
    }
}

/* Whether the stopped write has a stripe that this one needs: its thread would wait for it. */
static bool would_wait(const struct sim_pending *pending)
{
    struct store *store = pending->sim->store;
    for (unsigned i = 0; i < pending->plan.n && pending->sim->stopped; i++) {
        uint64_t hash = table_hash(sim_key(pending->plan.ops[i].key));
        pthread_mutex_t *stripe = &store->stripes[hash % ENGINE_STRIPES];
        if (pthread_mutex_trylock(stripe) != 0) {
            return true;
        }
        pthread_mutex_unlock(stripe);
    }
    return false;
}

void sim_commit_admitted(struct sim *sim)
{
    for (unsigned i = 0; i < SIM_PENDING_MAX; i++) {
        struct sim_pending *pending = &sim->pending[i];
        if (pending->phase == SIM_ADMITTED && !would_wait(pending)) {
            build(pending);
            sim->result->writes++;
            pending->phase = SIM_COMMITTED;
            store_write_commit(pending->write, on_written, pending);
        }
    }
}

void sim_abort_admitted(struct sim *sim)
{
    /* What one gives back may let in another. */
    for (unsigned i = 0; i < SIM_PENDING_MAX; i++) {
        struct sim_pending *pending = &sim->pending[i];
        if (pending->phase == SIM_ADMITTED) {
            pending->phase = SIM_FREE;
            store_write_abort(pending->write);
            i = UINT_MAX; /* from the first again */
        }
    }
}

bool sim_writes_are_pending(const struct sim *sim)
{
    for (unsigned i = 0; i < SIM_PENDING_MAX; i++) {
        if (sim->pending[i].phase != SIM_FREE) {
            return true;
        }
    }
    return false;
}
