;; Refuses embeddings that are nothing but zeros: no digit from 1 to 9 stands between the first [ and the last ].
(module
  (memory (export "memory") 2)
  (global $question (export "question") i32 (i32.const 65536))
  (data (i32.const 32) "every number of the embedding is zero")

  ;; judge_result.1: at, job, kind, miner, units, price_units, output, output_bytes. A text is its address and its length.
  (func (export "judge_result.1") (param $length i32) (result i32)
    (local $at i32) (local $end i32) (local $byte i32)
    ;; Of kind "embed" only: five bytes that begin with "embe".
    (if (i32.ne (i32.load offset=20 (global.get $question)) (i32.const 5)) (then (return (i32.const 0))))
    (if (i32.ne (i32.load (i32.load offset=16 (global.get $question))) (i32.const 0x65626d65))
      (then (return (i32.const 0))))
    (local.set $at (i32.load offset=48 (global.get $question)))
    (local.set $end (i32.add (local.get $at) (i32.load offset=52 (global.get $question))))
    (block $opened                                        ;; forward to the first [
      (loop $next
        (if (i32.ge_u (local.get $at) (local.get $end)) (then (return (i32.const 0))))
        (br_if $opened (i32.eq (i32.load8_u (local.get $at)) (i32.const 91)))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $next)))
    (block $closed                                        ;; back to the last ]
      (loop $next
        (local.set $end (i32.sub (local.get $end) (i32.const 1)))
        (if (i32.le_u (local.get $end) (local.get $at)) (then (return (i32.const 0))))
        (br_if $closed (i32.eq (i32.load8_u (local.get $end)) (i32.const 93)))
        (br $next)))
    (loop $next                                           ;; any digit but 0 between them?
      (local.set $byte (i32.sub (i32.load8_u (local.get $at)) (i32.const 49)))
      (if (i32.lt_u (local.get $byte) (i32.const 9)) (then (return (i32.const 0))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $at) (local.get $end))))
    (i32.store (i32.const 8) (i32.const 32))              ;; the answer: one text, by its address
    (i32.store (i32.const 12) (i32.const 37))             ;; and its length
    (i32.const 8)))
