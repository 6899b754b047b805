#include "tests/crash/model.h"

#include <stdlib.h>
#include <string.h>

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
    size_t base; /* writes that were cut off from the front of the list */
    struct model_state base_state;
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

void model_write(struct model *model)
{
    model->ends = grow(model->ends, &model->room_writes, model->n_writes, sizeof model->ends[0]);
    model->ends[model->n_writes++] = model->n_changes;
}

void model_change(struct model *model, unsigned key, uint64_t version, size_t size)
{
    model->changes =
        grow(model->changes, &model->room_changes, model->n_changes, sizeof model->changes[0]);
    model->changes[model->n_changes++] = (struct change){key, {version, size}};
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

size_t model_last_touch(const struct model *model, unsigned key)
{
    for (size_t write = model->n_writes; write-- > 0;) {
        for (size_t i = write == 0 ? 0 : model->ends[write - 1]; i < model->ends[write]; i++) {
            if (model->changes[i].key == key) {
                return model->base + write + 1;
            }
        }
    }
    return 0;
}

static void apply(const struct model *model, size_t write, struct model_state *state)
{
    for (size_t i = write == 0 ? 0 : model->ends[write - 1]; i < model->ends[write]; i++) {
        state->keys[model->changes[i].key] = model->changes[i].value;
    }
}

void model_state_at(const struct model *model, size_t prefix, struct model_state *ret_state)
{
    *ret_state = model->base_state;
    for (size_t i = 0; i < prefix - model->base; i++) {
        apply(model, i, ret_state);
    }
}

static bool states_equal(const struct model_state *a, const struct model_state *b)
{
    for (unsigned key = 0; key < MODEL_KEYS; key++) {
        if (a->keys[key].version != b->keys[key].version ||
            (a->keys[key].version != 0 && a->keys[key].size != b->keys[key].size)) {
            return false;
        }
    }
    return true;
}

bool model_recover(struct model *model, const struct model_state *recovered)
{
    struct model_state state;
    size_t floor = model_floor(model);
    model_state_at(model, floor, &state);
    for (size_t prefix = floor;; prefix++) {
        if (states_equal(&state, recovered)) {
            model->base = prefix;
            model->base_state = state;
            model->n_writes = model->n_changes = 0;
            model->acked = model->seen = prefix;
            return true;
        }
        if (prefix == model_issued(model)) {
            return false;
        }
        apply(model, prefix - model->base, &state);
    }
}
