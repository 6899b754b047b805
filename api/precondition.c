#include "api/precondition.h"

#include <stdlib.h>
#include <string.h>

#include "api/httpdate.h"

void precondition_init(struct precondition *precondition)
{
    /* Not the tags: they are written before they are counted. */
    precondition->if_match.present = precondition->if_none_match.present = false;
    precondition->if_match.any = precondition->if_none_match.any = false;
    precondition->if_match.count = precondition->if_none_match.count = 0;
    precondition->if_match.room = precondition->if_none_match.room = TAG_LIST_INLINE;
    precondition->if_match.heap = precondition->if_none_match.heap = NULL;
    precondition->has_modified_since = precondition->has_unmodified_since = false;
    precondition->modified_since_s = precondition->unmodified_since_s = 0;
}

void precondition_release(struct precondition *precondition)
{
    free(precondition->if_match.heap);
    free(precondition->if_none_match.heap);
    precondition_init(precondition);
}

static const struct etag *tags(const struct tag_list *list)
{
    return list->heap != NULL ? list->heap : list->few;
}

/* Doubles the room, on the heap from now on. */
static bool grow(struct tag_list *list)
{
    size_t room = 2 * list->room;
    struct etag *heap = reallocarray(list->heap, room, sizeof(*heap));

    if (heap == NULL) {
        return false;
    }
    if (list->heap == NULL) {
        memcpy(heap, list->few, sizeof(list->few));
    }
    list->heap = heap;
    list->room = room;
    return true;
}

static enum problem add_tag(struct tag_list *list, struct etag tag)
{
    if (list->count == list->room && !grow(list)) {
        return PROBLEM_OUT_OF_MEMORY;
    }
    (list->heap != NULL ? list->heap : list->few)[list->count++] = tag;
    return PROBLEM_NONE;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t';
}

static void skip(struct span *text, bool commas_too)
{
    while (text->len > 0 && (is_space(text->at[0]) || (commas_too && text->at[0] == ','))) {
        *text = span_of(text->at + 1, text->len - 1);
    }
}

static enum problem add_line(struct tag_list *list, struct span text)
{
    bool first = !list->present;
    bool found = false;

    list->present = true;
    skip(&text, false);
    if (text.len > 0 && text.at[0] == '*') {
        text = span_of(text.at + 1, text.len - 1);
        skip(&text, false);
        list->any = true;
        return text.len == 0 && first ? PROBLEM_NONE : PROBLEM_MALFORMED_PRECONDITION;
    }
    for (skip(&text, true); text.len > 0; skip(&text, true)) {
        struct etag tag;

        if (!etag_take(&text, &tag)) {
            return PROBLEM_MALFORMED_PRECONDITION;
        }
        found = true;
        if (tag.ours) {
            enum problem problem = add_tag(list, tag);

            if (problem != PROBLEM_NONE) {
                return problem;
            }
        }
        skip(&text, false);
        if (text.len > 0 && text.at[0] != ',') {
            return PROBLEM_MALFORMED_PRECONDITION;
        }
    }
    return found && !list->any ? PROBLEM_NONE : PROBLEM_MALFORMED_PRECONDITION;
}

enum problem precondition_if_match(struct precondition *precondition, struct span line)
{
    return add_line(&precondition->if_match, line);
}

enum problem precondition_if_none_match(struct precondition *precondition, struct span line)
{
    return add_line(&precondition->if_none_match, line);
}

void precondition_modified_since(struct precondition *precondition, struct span line, int64_t now_s)
{
    precondition->has_modified_since =
        httpdate_parse(line.at, line.len, now_s, &precondition->modified_since_s);
}

void precondition_unmodified_since(struct precondition *precondition, struct span line,
                                   int64_t now_s)
{
    precondition->has_unmodified_since =
        httpdate_parse(line.at, line.len, now_s, &precondition->unmodified_since_s);
}

/* Strong comparison wants both tags strong; ours always are. */
static bool matches(const struct tag_list *list, const struct store_current *current, bool strongly)
{
    const struct etag *tag = tags(list);

    if (!current->exists || list->any) {
        return current->exists;
    }
    for (size_t i = 0; i < list->count; i++) {
        if (store_version_equal(tag[i].version, current->version) && !(strongly && tag[i].weak)) {
            return true;
        }
    }
    return false;
}

int64_t precondition_date_s(uint64_t modified_ms)
{
    return (int64_t)(modified_ms / 1000) + 2;
}

enum precondition_verdict precondition_decide(const struct precondition *precondition,
                                              enum precondition_method method,
                                              const struct store_current *current)
{
    bool read = method == PRECONDITION_READ;
    int64_t modified_s = precondition_date_s(current->modified_ms);

    if (!current->exists && method != PRECONDITION_WRITE) {
        return PRECONDITION_PROCEED;
    }
    if (precondition->if_match.present) {
        if (!matches(&precondition->if_match, current, true)) {
            return PRECONDITION_FAILED;
        }
    } else if (precondition->has_unmodified_since && current->exists &&
               modified_s > precondition->unmodified_since_s) {
        return PRECONDITION_FAILED;
    }
    if (precondition->if_none_match.present) {
        if (matches(&precondition->if_none_match, current, false)) {
            return read ? PRECONDITION_NOT_MODIFIED : PRECONDITION_FAILED;
        }
    } else if (read && precondition->has_modified_since &&
               modified_s <= precondition->modified_since_s) {
        return PRECONDITION_NOT_MODIFIED;
    }
    return PRECONDITION_PROCEED;
}
