#include "api/router.h"

#include <string.h>

#include "api/routes.h"

static const struct route routes[] = {
    /* clang-format off */
    {"/kv/", true, API_ROUTE_KEY, {
        [API_METHOD_GET] = &kv_get, [API_METHOD_PUT] = &kv_put, [API_METHOD_DELETE] = &kv_delete}},
    {"/kv64/", true, API_ROUTE_KEY64, {
        [API_METHOD_GET] = &kv_get, [API_METHOD_PUT] = &kv_put, [API_METHOD_DELETE] = &kv_delete}},
    {"/kv", false, API_ROUTE_LIST, {[API_METHOD_GET] = &list_get}},
    {"/stats", false, API_ROUTE_STATS, {[API_METHOD_GET] = &admin_stats}},
    {"/admin/flush", false, API_ROUTE_FLUSH, {[API_METHOD_POST] = &admin_flush}},
    {"/admin/compact", false, API_ROUTE_COMPACT, {[API_METHOD_POST] = &admin_compact}},
    {"/version", false, API_ROUTE_VERSION, {[API_METHOD_GET] = &admin_version}},
    {"/openapi.yaml", false, API_ROUTE_OPENAPI, {[API_METHOD_GET] = &admin_openapi}},
    {"/livez", false, API_ROUTE_LIVEZ, {[API_METHOD_GET] = &page_get}},
    {"/readyz", false, API_ROUTE_READYZ, {[API_METHOD_GET] = &page_readyz}},
    {"/startupz", false, API_ROUTE_STARTUPZ, {[API_METHOD_GET] = &page_get}},
    {"/metrics", false, API_ROUTE_METRICS, {[API_METHOD_GET] = &page_get}},
    /* clang-format on */
};
enum { ROUTES = sizeof(routes) / sizeof(routes[0]) };

#define TEXT(id, text) [id] = (text),
static const char *const route_names[API_ROUTE_COUNT] = {API_ROUTE_TABLE(TEXT)};
static const char *const method_names[API_METHOD_COUNT] = {API_METHOD_TABLE(TEXT)};
#undef TEXT

const char *api_route_name(enum api_route route)
{
    return route_names[route];
}

const char *api_method_name(enum api_method method)
{
    return method_names[method];
}

const struct route *router_find(struct span path, struct span *ret_rest)
{
    for (size_t i = 0; i < ROUTES; i++) {
        size_t len = strlen(routes[i].path);

        if (path.len < len || memcmp(path.at, routes[i].path, len) != 0) {
            continue;
        }
        if (!routes[i].prefix && path.len != len) {
            continue;
        }
        *ret_rest = span_of(path.at + len, path.len - len);
        return &routes[i];
    }
    return NULL;
}

enum api_method router_method(const char *method)
{
    for (int i = 0; i < API_METHOD_OTHER; i++) {
        if (strcmp(method, method_names[i]) == 0) {
            return (enum api_method)i;
        }
    }
    return API_METHOD_OTHER;
}

const struct handler *router_handler(const struct route *route, enum api_method method)
{
    return route->handlers[method == API_METHOD_HEAD ? API_METHOD_GET : method];
}

static bool any_route_has(enum api_method method)
{
    for (size_t i = 0; i < ROUTES; i++) {
        if (router_handler(&routes[i], method) != NULL) {
            return true;
        }
    }
    return false;
}

void router_allow(const struct route *route, char out[ALLOW_SIZE])
{
    char *at = out;

    for (int i = 0; i < API_METHOD_OTHER; i++) {
        enum api_method method = (enum api_method)i;
        bool has = method == API_METHOD_OPTIONS ||
                   (route == NULL ? any_route_has(method) : router_handler(route, method) != NULL);
        if (!has) {
            continue;
        }
        at = stpcpy(at, at == out ? "" : ", ");
        at = stpcpy(at, method_names[i]);
    }
}
