;; Half of the price from ten in the evening to six in the morning, UTC.
(module
  (memory (export "memory") 2)
  ;; Where the host writes each question: 64 KiB that are used for nothing else.
  (global $question (export "question") i32 (i32.const 65536))

  ;; price.1: at, account, kind, model, units_max, unit_price_units, list_price_units; eight bytes each.
  (func (export "price.1") (param $length i32) (result i32)
    (local $hour i64)
    (local.set $hour
      (i64.div_u (i64.rem_u (i64.load (global.get $question)) (i64.const 86400)) (i64.const 3600)))
    (if (i32.and (i64.lt_u (local.get $hour) (i64.const 22)) (i64.ge_u (local.get $hour) (i64.const 6)))
      (then (return (i32.const 0))))                      ;; by day it has no opinion
    ;; The answer is a record too, of one field: unit_price_units. It stands at 8, since 0 says "no opinion".
    (i64.store (i32.const 8)
      (i64.shr_u (i64.load offset=40 (global.get $question)) (i64.const 1)))
    (i32.const 8)))
