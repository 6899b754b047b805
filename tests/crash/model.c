#include "tests/crash/model.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

struct change {
    unsigned key;
    struct model_value value;
};

struct model {
    struct change *changes;
    size_t n_changes, room_changes;
    size_t *ends; /* of write i: changes[ends[i - 1]] to changes[ends[i]] */
    size_t n_writes, room_writes;
    size_t acked, seen;
    size_t base; /* writes that were cut off from the front of the list… */
    struct model_state base_state;
    uint64_t base_number; /* …and the last number of those */
    uint64_t version;
};

static void *grow(void *array, size_t *room, size_t n, size_t size)
{
    if (n < *room) {
        return array;
    }
    *room = *room ? *room * 2 : 64;
    array = realloc(array, *room * size);
    if (!array) {
        abort();
    }
    return array;
}

struct model *model_new(void)
{
    struct model *model = calloc(1, sizeof *model);
    if (!model) {
        abort();
    }
    return model;
}

void model_free(struct model *model)
{
    free(model->changes);
    free(model->ends);
    free(model);
}

uint64_t model_next_version(struct model *model)
{
    return ++model->version;
}

uint64_t model_next_number(const struct model *model)
{
    return model->base_number + model->n_changes + 1;
}

void model_write(struct model *model)
{
    model->ends = grow(model->ends, &model->room_writes, model->n_writes, sizeof model->ends[0]);
    model->ends[model->n_writes++] = model->n_changes;
}

void model_change(struct model *model, unsigned key, struct model_value *value)
{
    uint64_t number = model_next_number(model);
    model->changes =
        grow(model->changes, &model->room_changes, model->n_changes, sizeof model->changes[0]);
    value->number = number;
    model->changes[model->n_changes++] = (struct change){key, *value};
    model->ends[model->n_writes - 1] = model->n_changes;
}

size_t model_issued(const struct model *model)
{
    return model->base + model->n_writes;
}

void model_ack(struct model *model, size_t prefix)
{
    if (prefix > model->acked) {
        model->acked = prefix;
    }
}

void model_see(struct model *model, size_t prefix)
{
    if (prefix > model->seen) {
        model->seen = prefix;
    }
}

size_t model_floor(const struct model *model)
{
    return model->acked > model->seen ? model->acked : model->seen;
}

static size_t begin_of(const struct model *model, size_t write)
{
    return write == 0 ? 0 : model->ends[write - 1];
}

size_t model_last_touch(const struct model *model, unsigned key)
{
    for (size_t write = model->n_writes; write-- > 0;) {
        for (size_t i = begin_of(model, write); i < model->ends[write]; i++) {
            if (model->changes[i].key == key) {
                return model->base + write + 1;
            }
        }
    }
    return 0;
}

void model_state_at(const struct model *model, size_t prefix, struct model_state *ret_state)
{
    assert(prefix >= model->base && prefix <= model_issued(model));
    size_t end = prefix == model->base ? 0 : model->ends[prefix - model->base - 1];
    *ret_state = model->base_state;
    for (size_t i = 0; i < end; i++) {
        const struct change *change = &model->changes[i];
        ret_state->keys[change->key] =
            change->value.version ? change->value : (struct model_value){.version = 0};
    }
}

bool model_value_equal(struct model_value a, struct model_value b)
{
    return a.version == b.version && a.size == b.size && a.number == b.number;
}

/* The prefix whose last number is this one; false: there is none. */
static bool find_prefix(const struct model *model, uint64_t last_number, size_t *ret_prefix)
{
    for (size_t n = 0; n <= model->n_writes; n++) {
        if (model->base_number + begin_of(model, n) == last_number) {
            *ret_prefix = model->base + n;
            return true;
        }
    }
    return false;
}

static void cut(struct model *model, size_t prefix, uint64_t last_number,
                const struct model_state *state)
{
    model->base = prefix;
    model->base_state = *state;
    model->base_number = last_number;
    model->n_writes = model->n_changes = 0;
    model->acked = model->seen = prefix;
}

bool model_recover(struct model *model, const struct model_state *recovered, uint64_t last_number,
                   char ret_why[MODEL_TEXT_BYTES])
{
    size_t prefix;
    if (!find_prefix(model, last_number, &prefix)) {
        snprintf(ret_why, MODEL_TEXT_BYTES, "the newest number %llu is no write's last",
                 (unsigned long long)last_number);
        return false;
    }
    if (prefix < model_floor(model)) {
        snprintf(ret_why, MODEL_TEXT_BYTES,
                 "%zu writes are there; %zu were acknowledged, and what %zu made was shown", prefix,
                 model->acked, model->seen);
        return false;
    }
    struct model_state state;
    model_state_at(model, prefix, &state);
    for (unsigned key = 0; key < MODEL_KEYS; key++) {
        const struct model_value *is = &recovered->keys[key], *want = &state.keys[key];
        if (!model_value_equal(*is, *want)) {
            snprintf(ret_why, MODEL_TEXT_BYTES,
                     "key %u has version %llu, number %llu, %llu bytes, and not version %llu, "
                     "number %llu, %llu bytes",
                     key, (unsigned long long)is->version, (unsigned long long)is->number,
                     (unsigned long long)is->size, (unsigned long long)want->version,
                     (unsigned long long)want->number, (unsigned long long)want->size);
            return false;
        }
    }
    cut(model, prefix, last_number, &state);
    return true;
}
