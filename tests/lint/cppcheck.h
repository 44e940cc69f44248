/* What cppcheck has to know of macros whose headers it does not read. */
#define TAILQ_HEAD(name, type) struct name { struct type *tqh_first; }
#define STAILQ_HEAD(name, type) struct name { struct type *stqh_first; }
#define LIST_HEAD(name, type) struct name { struct type *lh_first; }
#define TAILQ_ENTRY(type) struct { struct type *tqe_next; }
#define STAILQ_ENTRY(type) struct { struct type *stqe_next; }
#define LIST_ENTRY(type) struct { struct type *le_next; }
#define TAILQ_FOREACH(v, h, f) for ((v) = (h)->tqh_first; (v); (v) = (v)->f.tqe_next)
#define STAILQ_FOREACH(v, h, f) for ((v) = (h)->stqh_first; (v); (v) = (v)->f.stqe_next)
#define LIST_FOREACH(v, h, f) for ((v) = (h)->lh_first; (v); (v) = (v)->f.le_next)
#define json_array_foreach(a, i, v) for ((i) = 0; ((v) = json_array_get(a, i)); (i)++)
#define json_object_foreach(o, k, v) for (k = next_key(o); ((v) = json_object_get(o, k));)
