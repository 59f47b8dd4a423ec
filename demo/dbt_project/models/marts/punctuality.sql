-- The other side of the diamond.
select
    carrier,
    count(*) as flights,
    count(*) filter (where arr_delay < 15) as on_time,
    round(100.0 * count(*) filter (where arr_delay < 15) / count(*), 2) as on_time_percent
from {{ ref('flight_facts') }}
group by carrier
