/* linear_tags.c - an array that is searched from its begin: there are some hundred tags. */
#include "tests/support/linear_tags.h"

#include <assert.h>
#include <stdlib.h>

#include "tests/support/alloc.h"

size_t linear_tags_find(const struct linear_tags *tags, uint64_t text)
{
    for (size_t i = 1; i <= tags->n_tags && text != 0; i++) {
        if (tags->tags[i].text == text) {
            return i;
        }
    }
    return 0;
}

/* An answer says that the tag is on the key, and whose it is, or 0. False: another answer says
 * something else. */
static bool learn(struct linear_tags *tags, uint64_t text, unsigned key, uint32_t value, size_t op,
                  struct linear_fault *fault)
{
    if (text == 0) {
        return true;
    }
    size_t place = linear_tags_find(tags, text);
    if (place == 0) {
        place = ++tags->n_tags;
        tags->tags[place] = (struct linear_tag){.text = text, .key = key, .told_by = op};
    }
    struct linear_tag *tag = &tags->tags[place];
    size_t known = value != 0 ? tags->of_value[value] : 0;
    if (tag->key != key || (value != 0 && tag->value != 0 && tag->value != value)) {
        *fault = (struct linear_fault){.op = op, .other = tag->told_by};
        return false;
    }
    if (known != 0 && known != place) {
        *fault = (struct linear_fault){.op = op, .other = tags->tags[known].told_by};
        return false;
    }
    if (value != 0 && tag->value == 0) {
        tag->value = value;
        tag->told_by = op;
        tags->of_value[value] = place;
    }
    return true;
}

static void make_room(struct linear_tags *tags, const struct linear_op *ops, size_t n_ops)
{
    size_t n_steps = 0;
    uint32_t most = 0;
    for (size_t i = 0; i < n_ops; i++) {
        for (size_t j = 0; j < ops[i].n_steps; j++) {
            const struct linear_step *step = &ops[i].steps[j];
            most = step->value > most ? step->value : most;
            most = step->met_value > most ? step->met_value : most;
            n_steps++;
        }
    }
    tags->n_values = (size_t)most + 1;
    tags->of_value = test_alloc(tags->n_values * sizeof *tags->of_value);
    tags->tags = test_alloc((2 * n_steps + 1) * sizeof *tags->tags);
}

struct linear_tags *linear_tags_new(const struct linear_op *ops, size_t n_ops,
                                    struct linear_fault *ret_fault)
{
    struct linear_tags *tags = test_alloc(sizeof *tags);
    make_room(tags, ops, n_ops);
    for (size_t i = 0; i < n_ops; i++) {
        for (size_t j = 0; j < ops[i].n_steps; j++) {
            const struct linear_step *step = &ops[i].steps[j];
            if (!learn(tags, step->met_tag, step->key, step->met_value, i, ret_fault) ||
                !learn(tags, step->made_tag, step->key, step->value, i, ret_fault)) {
                linear_tags_free(tags);
                return NULL;
            }
        }
    }
    return tags;
}

void linear_tags_free(struct linear_tags *tags)
{
    if (tags != NULL) {
        free(tags->tags);
        free(tags->of_value);
        free(tags);
    }
}
